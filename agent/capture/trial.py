"""One try of one source, in a process of its own: `python -m agent.capture.trial SOURCE PICTURE`.

Opens it, takes one frame, saves it as PICTURE, and prints one line of JSON: what it is, or why not. For `doctor`.
"""

import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from agent.capture.process import QUIET
from agent.messages.errors import ChangeoverError
from agent.processes.redact import redact


def main(text: str, picture: Path) -> dict[str, object]:
    """Try it; return what is to be printed."""
    import cv2  # noqa: PLC0415 - it reads QUIET when it is loaded
    import numpy as np  # noqa: PLC0415

    from agent.capture.sources import create  # noqa: PLC0415 - it loads cv2

    begun_s = time.monotonic()
    source = create(text, lambda _warning: None)
    image = np.zeros((1, 1, 3), np.uint8)

    def buffer(height: int, width: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
        nonlocal image
        image = np.zeros((height, width, 3), np.uint8)
        return image

    try:
        info = source.open()
        source.grab()
        source.retrieve(buffer)
    finally:
        source.close()
    saved = False
    with suppress(OSError, cv2.error):
        picture.parent.mkdir(parents=True, exist_ok=True)
        saved = bool(cv2.imwrite(str(picture), image))
    height, width = image.shape[:2]
    return {
        "name": source.name,
        "width": width,
        "height": height,
        "fps": info.fps,
        "seconds": round(time.monotonic() - begun_s, 2),
        "spread": float(image.std()),
        "picture": str(picture) if saved else None,
    }


def run() -> None:
    """Try what the arguments name; never with a traceback for what a camera did."""
    os.environ.update(QUIET)
    try:
        said = main(sys.argv[1], Path(sys.argv[2]))
    except ChangeoverError as error:
        said = {"error": redact(str(error))}
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    run()
