"""A frame slot's writer that also shows each frame to the picture encoder."""

from typing import Final

from agent.capture.camera import Writer
from agent.capture.source import Image
from agent.capture.viewing.picture_encoder import PictureEncoder
from agent.processes.slots.picture_link import PictureSender


class ViewedWriter:
    """The same as the writer that it wraps; a frame is offered to the line first, then to people. For one thread."""

    def __init__(self, writer: Writer, encoder: PictureEncoder) -> None:
        self._writer: Final = writer
        self._encoder: Final = encoder
        self._image: Image | None = None

    def buffer(self, height: int, width: int) -> Image:
        """Return a (height, width, 3) uint8 array to write the next frame into."""
        self._image = self._writer.buffer(height, width)
        return self._image

    def offer(self, captured_ns: int, captured_unix_ns: int, of: tuple[int, int] | None = None) -> int:
        """Publish the written buffer as the newest frame; return the frame's number."""
        number = self._writer.offer(captured_ns, captured_unix_ns, of)
        if self._image is not None:  # whole until the next but one is written, and only this thread writes
            self._encoder.offer(self._image, number, captured_unix_ns)
        return number

    def wait_taken(self, timeout_s: float) -> bool:
        """Wait until the worker has taken the newest frame; False after `timeout_s`."""
        return self._writer.wait_taken(timeout_s)


def viewed(writer: Writer, descriptor: int) -> ViewedWriter:
    """Return the writer with an encoder, started, that answers on a picture link's end until the process ends."""
    encoder = PictureEncoder(PictureSender(descriptor))
    encoder.start()
    return ViewedWriter(writer, encoder)
