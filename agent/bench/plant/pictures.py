"""Pictures of every measurement: rendered frames at the model's size, so that none is scaled."""

from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.demo.conveyor import dataset

_PRODUCT: Final = "bottle-500"
_COUNT: Final = 16
_SEED: Final = 700_000


@cache
def pictures(side: int) -> tuple[NDArray[np.uint8], ...]:
    """Return frames of a conveyor, stretched to uint8 (side, side, 3) BGR; every call returns the same ones."""
    return tuple(dataset.stretched(frame, side) for frame, _ in dataset.frames(_PRODUCT, _COUNT, _SEED))


def write_pictures(folder: Path, side: int) -> None:
    """Write the pictures uncompressed, which are fast to read."""
    folder.mkdir(parents=True)
    header = f"P6\n{side} {side}\n255\n".encode()
    for number, picture in enumerate(pictures(side)):
        (folder / f"{number:02d}.ppm").write_bytes(header + picture[..., ::-1].tobytes())
