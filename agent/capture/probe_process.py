"""One try of one source: `python -m agent.capture.probe_process PICTURE OPEN_S READ_S`, the source on its stdin.

Opens it, takes one frame, saves it as PICTURE, and prints one line of JSON: what it is, or why not. For `doctor`. The
source does not stand among the arguments, which every user of the device can read: it may hold a password.
"""

import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from agent.capture.process import QUIET
from agent.messages.errors import ChangeoverError
from agent.messages.redact import redact

if TYPE_CHECKING:
    from agent.capture.source import Image


def main(text: str, picture: Path, open_s: float, read_s: float) -> dict[str, object]:
    """Try it; return what is to be printed."""
    import cv2  # noqa: PLC0415 - it reads QUIET when it is loaded
    import numpy as np  # noqa: PLC0415

    from agent.capture.source import Patience  # noqa: PLC0415 - the same
    from agent.capture.sources import create  # noqa: PLC0415 - it loads cv2

    begun_s = time.monotonic()
    source = create(text, lambda _warning: None, Patience(open_s, read_s))
    image: Image = np.zeros((1, 1, 3), np.uint8)

    def buffer(height: int, width: int) -> "Image":
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
        save(picture, cv2.imencode(picture.suffix, image)[1].tobytes())
        saved = True
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


def save(picture: Path, data: bytes) -> None:
    """Write a file anew, in a folder that is made if need be; both belong to whom the folder above belongs.

    For root, who tries cameras for the service: what lies there is another user's, so no link in it is followed.
    """
    picture.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    above = picture.parent.parent.stat()
    folder = os.open(picture.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        with suppress(FileNotFoundError):
            os.unlink(picture.name, dir_fd=folder)
        file = os.open(picture.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640, dir_fd=folder)
        with os.fdopen(file, "wb") as stream:
            stream.write(data)
            if os.geteuid() == 0:
                os.fchown(file, above.st_uid, above.st_gid)
                os.fchown(folder, above.st_uid, above.st_gid)
    finally:
        os.close(folder)


def run() -> None:
    """Try what stdin names; never with a traceback for what a camera did."""
    os.environ.update(QUIET)
    try:
        said = main(sys.stdin.buffer.read().decode(), Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
    except ChangeoverError as error:
        said = {"error": redact(str(error))}
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    run()
