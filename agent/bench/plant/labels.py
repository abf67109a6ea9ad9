"""Labels and a constant object that trace an answer to the model that gave it."""

from typing import Final

CLASSES: Final = 80
_SIDE: Final = 32


def labels_of(name: str) -> tuple[str, ...]:
    """Return a model's own labels, such as `x-b/0`, `x-b/1`."""
    return tuple(f"{name}/{index}" for index in range(CLASSES))


def is_label_of(label: str, name: str) -> bool:
    """Return True where the label belongs to the model `name` alone."""
    return label.rpartition("/")[0] == name


def marker_of(name: str) -> tuple[int, tuple[int, int, int, int]]:
    """Return the constant object that a model always finds: class index, box (centre and size in input pixels)."""
    index = sum(name.encode()) % CLASSES
    return index, (_SIDE, _SIDE, _SIDE, _SIDE)
