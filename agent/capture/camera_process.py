"""Entry of a camera process: `python -m agent.capture.camera_process DESCRIPTOR`. Its heaviest import is cv2."""

import os
from functools import partial
from typing import Any

from agent.messages.children import CameraSetup, ToCamera
from agent.processes import oom_score
from agent.processes.child import Child, run_child

# Silences cv2 and FFmpeg, because their messages show URLs with passwords. cv2 reads these variables at its import.
QUIET = {"OPENCV_LOG_LEVEL": "SILENT", "OPENCV_FFMPEG_LOGLEVEL": "-8", "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT": "2"}


def main(child: Child[Any]) -> None:
    """Run the camera that the first message describes; after its source ends, wait until control closes the channel."""
    from agent.capture.camera import Camera, Writer  # noqa: PLC0415 - it loads cv2, after QUIET is set
    from agent.capture.hardware.decoders import HardwareDecoding  # noqa: PLC0415
    from agent.capture.source import Patience  # noqa: PLC0415
    from agent.capture.sources import create  # noqa: PLC0415
    from agent.processes.slots.frame_slot import SlotWriter  # noqa: PLC0415

    setup: CameraSetup = child.inbox.get()
    oom_score.raise_to(oom_score.CAMERA)
    patience = Patience(setup.open_s, setup.read_s, first_frame=not setup.triggered)
    decoding = HardwareDecoding(setup.model_side) if setup.hwdec else None
    writer: Writer = SlotWriter(setup.slot)
    if setup.pictures is not None:
        from agent.capture.viewing.viewed_writer import viewed  # noqa: PLC0415

        writer = viewed(writer, setup.pictures)
    maker = partial(create, patience=patience, ca_file=setup.ca_file, decoding=decoding)
    Camera(child, setup, writer, maker).run()
    child.inbox.get()


def start() -> None:
    """Configure cv2 and run the child."""
    os.environ.update(QUIET)
    import cv2  # noqa: PLC0415 - it reads QUIET when it is loaded

    # One thread, because decoders have their own, and cv2's pool would take CPU time from the models.
    cv2.setNumThreads(1)
    run_child(ToCamera, {"opencv": cv2.__version__}, main)


if __name__ == "__main__":
    start()
