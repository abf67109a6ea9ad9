"""Training of ultralytics' networks on frames that the demo's conveyor renders."""

from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any, Final

import numpy as np

from agent.demo.conveyor import dataset

Untyped = Any
Batches = Iterator[dict[str, Untyped]]

_FRAMES: Final = 32
_FIRST_SEED: Final = 1_000


def train(torch: Untyped, network: Untyped, batches: Batches, steps: int, rate: float) -> tuple[float, float]:
    """Train all layers for so many steps; return the loss of a picture before and after.

    `torch` is the module, because whoever calls has imported it with care.
    """
    from ultralytics.cfg import get_cfg  # noqa: PLC0415 - only after torch was imported

    said, network.args = getattr(network, "args", {}), get_cfg()  # a network that no file holds has none
    network.train()
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 0.3  # because the usual 0.03 takes more steps than there are
    for weight in network.parameters():
        weight.requires_grad_(True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate)
    losses = []
    for frames in islice(batches, steps):
        loss = network.loss(frames)[0].sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        losses.append(float(loss) / len(frames["img"]))
    network.args, network.criterion = said, None
    network.eval()
    for norm in norms:
        norm.momentum = 0.03
    for weight in network.parameters():
        weight.requires_grad_(False)
    return losses[0], losses[-1]


def batches_of(torch: Untyped, product: str, side: int, size: int) -> Batches:
    """Yield a product's frames over and over, stretched to squares."""
    known = list(dataset.frames(product, _FRAMES, _FIRST_SEED))
    frames = cycle(known)
    while True:
        chosen = list(islice(frames, size))
        pixels = [dataset.stretched(picture, side)[..., ::-1].transpose(2, 0, 1) for picture, _ in chosen]
        labels = [
            (number, part.class_id, *dataset.centred(part.box, picture))
            for number, (picture, parts) in enumerate(chosen)
            for part in parts
        ]
        rows = torch.tensor(labels, dtype=torch.float32).reshape(-1, 6)
        yield {
            "img": torch.from_numpy(np.ascontiguousarray(np.stack(pixels))).float() / 255,
            "batch_idx": rows[:, 0],
            "cls": rows[:, 1:2],
            "bboxes": rows[:, 2:],
        }
