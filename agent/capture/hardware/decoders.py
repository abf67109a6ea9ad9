"""Hardware decoders as GStreamer elements, and which of them this device has. Not tested on hardware."""

import glob
from dataclasses import dataclass
from functools import cached_property
from typing import Final

_WIDTH_STEP: Final = 8
_HEIGHT_STEP: Final = 2
"""Frame widths and heights must be multiples of these steps for `GstSource` to read them."""


@dataclass(frozen=True)
class Decoder:
    """One kind of hardware decoder."""

    nodes: tuple[str, ...]
    """Glob patterns of device nodes; the device has this decoder where any of them matches."""
    elements: dict[str, str]
    """GStreamer element that decodes, by FFmpeg's codec name."""
    scale: str
    """Part of a pipeline that scales frames; `{width}` and `{height}` are its placeholders."""


DECODERS: Final = (
    Decoder(  # a Jetson; its converter (VIC) copies out of NVMM and scales
        nodes=("/dev/nvmap", "/dev/v4l2-nvdec", "/dev/nvhost-nvdec"),
        elements={"h264": "nvv4l2decoder", "hevc": "nvv4l2decoder"},
        scale="nvvidconv ! video/x-raw,format=I420,width={width},height={height}",
    ),
    Decoder(  # a PC's graphics by VA-API
        nodes=("/dev/dri/renderD*",),
        elements={"h264": "vah264dec", "hevc": "vah265dec"},
        scale="vapostproc ! video/x-raw,width={width},height={height}",
    ),
)
_PARSERS: Final = {"h264": "h264parse", "hevc": "h265parse"}


class HardwareDecoding:
    """Hardware decoder of one camera process, used until its first failure; for one thread."""

    def __init__(self, side: int = 0, decoders: tuple[Decoder, ...] = DECODERS) -> None:
        """Store the parameters; `side` is that of the largest model's input in pixels, or 0 to keep frames' sizes."""
        self._side: Final = side
        self._decoders: Final = decoders
        self.failure = ""
        """Reason why the hardware is no longer used; empty while it is."""

    @cached_property
    def _decoder(self) -> Decoder | None:
        return next((one for one in self._decoders if any(map(glob.glob, one.nodes))), None)

    @property
    def is_here(self) -> bool:
        """True where the device has a hardware decoder, whether it works or not."""
        return self._decoder is not None

    def element(self, coding: str) -> str | None:
        """Return the GStreamer element that decodes FFmpeg's codec `coding`; None where the hardware has none."""
        return self._decoder.elements.get(coding) if self._decoder is not None else None

    def pipeline(self, coding: str, size: tuple[int, int]) -> str:
        """Return the pipeline that decodes a stream from file descriptor 0 to frames of `size`, (width, height)."""
        assert self._decoder is not None
        scale = self._decoder.scale.format(width=size[0], height=size[1])
        return f"fdsrc fd=0 blocksize=65536 ! {_PARSERS[coding]} ! {self._decoder.elements[coding]} ! {scale}"

    def scaled(self, width: int, height: int) -> tuple[int, int]:
        """Return the (width, height) to decode a picture to; neither side becomes smaller than the model's input.

        Both sides count, because some models stretch a picture over their input. The sizes are ones that `GstSource`
        reads.
        """
        gain = min(1.0, self._side / min(width, height)) if self._side else 1.0
        return _stepped(width * gain, _WIDTH_STEP, width), _stepped(height * gain, _HEIGHT_STEP, height)


def _stepped(length: float, step: int, most: int) -> int:
    """Round up to a multiple of `step`, or down where that would exceed `most`."""
    up = -(-round(length) // step) * step
    return up if up <= most else max(step, most // step * step)
