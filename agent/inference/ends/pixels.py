"""Conversion of a picture's pixels to the numbers that a model takes."""

from dataclasses import dataclass
from typing import Final

from agent.inference.ends.packs import Pack
from agent.inference.yolo.layouts import Layout
from agent.inference.yolo.letterbox import Fit
from agent.messages.references import Preprocess

Planes = tuple[float, float, float]

_BYTE: Final = 1 / 255
_NO_MEAN: Final[Planes] = (0.0, 0.0, 0.0)
_NO_STD: Final[Planes] = (1.0, 1.0, 1.0)
IMAGENET_MEAN: Final[Planes] = (0.485, 0.456, 0.406)
IMAGENET_STD: Final[Planes] = (0.229, 0.224, 0.225)
_FITS: Final = {"letterbox": Fit.CENTRED, "corner": Fit.CORNER, "stretch": Fit.STRETCHED}
_STRETCHED: Final = frozenset({Layout.QUERIES, Layout.QUERY_ROWS, Layout.SHARE_ROWS})
_OF_YOLOX: Final = frozenset({Layout.GRID, Layout.GRID_DECODED})
_OF_WHOLES: Final = frozenset({Layout.WORDS, Layout.LOGITS})
_NORMED: Final = frozenset({Pack.NORMED_LOGITS, Pack.SOFTMAX})


@dataclass(frozen=True)
class Pixels:
    """Conversion of a picture to input: (pixel * scale - mean) / std for each plane, in the model's colour order."""

    fit: Fit = Fit.CENTRED
    is_bgr: bool = False
    scale: float = _BYTE
    mean: Planes = _NO_MEAN
    std: Planes = _NO_STD

    @classmethod
    def of(
        cls, said: Preprocess, layout: Layout, pack: Pack | None, imgsz: tuple[int, int], *, takes_bytes: bool
    ) -> "Pixels":
        """Return what the catalog says; what it leaves out follows from the layout, and from how the graph begins.

        A graph that takes pixels as 0 to 255 normalises them by itself.
        """
        is_yolox = layout in _OF_YOLOX
        is_normed = (pack in _NORMED or layout is Layout.LOGITS) and not takes_bytes
        return cls(
            fit=_FITS[said.resize] if said.resize else _fit(layout, imgsz),
            is_bgr=said.colours == "bgr" if said.colours else is_yolox,
            scale=said.scale if said.scale is not None else 1.0 if takes_bytes or is_yolox else _BYTE,
            mean=said.mean or (IMAGENET_MEAN if is_normed else _NO_MEAN),
            std=said.std or (IMAGENET_STD if is_normed else _NO_STD),
        )

    @property
    def takes_bytes(self) -> bool:
        """True where the pixels go in as they are."""
        return self.scale == 1.0 and not self.is_normed

    @property
    def is_normed(self) -> bool:
        """True where a mean is taken away, or a deviation divided by."""
        return (self.mean, self.std) != (_NO_MEAN, _NO_STD)


def _fit(layout: Layout, imgsz: tuple[int, int]) -> Fit:
    if layout in _OF_WHOLES:
        return Fit.COVERING if imgsz[0] == imgsz[1] else Fit.STRETCHED
    if layout in _STRETCHED:
        return Fit.STRETCHED
    return Fit.CORNER if layout in _OF_YOLOX else Fit.CENTRED
