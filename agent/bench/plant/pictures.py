"""Pictures of every measurement: rendered frames at the model's size, so that none is scaled."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.demo.conveyor import dataset

TRAINED: Final[Mapping[str, str]] = {"segment": "jar-250", "obb": "tube-75"}
"""The demo's products whose trained networks the benchmarks take, by task."""
_PRODUCT: Final = "bottle-500"
_TRAINED_SIDE: Final = 320
"""Side in pixels at which the demo's networks were trained; a larger picture shows them several frames."""
_COUNT: Final = 16
_SEED: Final = 700_000


@cache
def pictures(side: int, task: str = "detect") -> tuple[NDArray[np.uint8], ...]:
    """Return frames of a conveyor, stretched to uint8 (side, side, 3) BGR; every call returns the same ones.

    Of a task with a trained network they show its product, as large as in training, by several frames in each.
    """
    across = max(1, side // _TRAINED_SIDE) if task in TRAINED else 1
    rendered = dataset.frames(TRAINED.get(task, _PRODUCT), _COUNT * across**2, _SEED)
    frames = [dataset.stretched(frame, side // across) for frame, _ in rendered]
    rows = [np.concatenate(frames[at : at + across], axis=1) for at in range(0, len(frames), across)]
    whole = [np.concatenate(rows[at : at + across]) for at in range(0, len(rows), across)]
    return tuple(dataset.stretched(picture, side) for picture in whole)


def write_pictures(folder: Path, side: int, task: str = "detect") -> None:
    """Write the pictures uncompressed, which are fast to read."""
    folder.mkdir(parents=True)
    header = f"P6\n{side} {side}\n255\n".encode()
    for number, picture in enumerate(pictures(side, task)):
        (folder / f"{number:02d}.ppm").write_bytes(header + picture[..., ::-1].tobytes())
