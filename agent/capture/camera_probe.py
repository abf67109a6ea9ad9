"""Subprocess of `doctor` that tries one source: `camera_probe PICTURE OPEN_S READ_S [CA_FILE] [--software]`.

Takes one frame, saves it as PICTURE, and prints one line of JSON (ProbedCamera). The source comes on stdin,
because every user of the device can read arguments, and the source may hold a password.
"""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agent.capture.camera_process import QUIET
from agent.messages.errors import ChangeoverError
from agent.messages.short_lived.probe_results import SOFTWARE, ProbedCamera
from agent.redact import redact

if TYPE_CHECKING:
    from agent.capture.source import Image


def main(
    text: str, picture: Path, patience_s: tuple[float, float], ca_file: str | None = None, *, hwdec: bool = True
) -> ProbedCamera:
    """Take one frame of the source `text`; return the outcome. `patience_s`: the timeouts of open and read.

    `hwdec`: try a hardware decoder first. Raises ChangeoverError where the camera fails.
    """
    import cv2  # noqa: PLC0415 - it reads QUIET when it is loaded
    import numpy as np  # noqa: PLC0415

    from agent.capture.hardware.decoders import HardwareDecoding  # noqa: PLC0415 - the same
    from agent.capture.source import Patience  # noqa: PLC0415 - the same
    from agent.capture.sources import create  # noqa: PLC0415 - it loads cv2

    begun_s = time.monotonic()
    decoding = HardwareDecoding() if hwdec else None
    source = create(text, lambda _warning: None, Patience(*patience_s), ca_file, decoding)
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
    return ProbedCamera(
        name=source.name,
        width=width,
        height=height,
        fps=info.fps,
        seconds=round(time.monotonic() - begun_s, 2),
        spread=float(image.std()),
        picture=str(picture) if saved else None,
        decoder=redact(info.decoder),
    )


def save(picture: Path, data: bytes) -> None:
    """Write a file anew in a folder that is created if needed; as root, give both to the owner of the folder above.

    Follows no link, because root runs this in a folder that belongs to the service's user.
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
    """Try the source that stdin names; print a camera's error as JSON instead of a traceback."""
    os.environ.update(QUIET)
    try:
        picture, open_s, read_s, *ca_file = (word for word in sys.argv[1:] if word != SOFTWARE)
        source, patience_s = sys.stdin.buffer.read().decode(), (float(open_s), float(read_s))
        probed = main(source, Path(picture), patience_s, *ca_file, hwdec=SOFTWARE not in sys.argv)
    except ChangeoverError as error:
        probed = ProbedCamera(error=redact(str(error)))
    sys.stdout.buffer.write(msgspec.json.encode(probed) + b"\n")


if __name__ == "__main__":
    run()
