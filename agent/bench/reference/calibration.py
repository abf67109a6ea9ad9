"""Random weights under which a network computes as a trained one does, for every size at its real cost.

A network as it is made lets its signal fade to constants; one that is normalised at full gain amplifies rounding until
bfloat16 answers anything. At a small gain each layer stays near its linear range, and errors as small as in a trained
network (decision 116).
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

_GAIN: Final = 0.1
_BOX_SPREAD: Final = 1.5  # of the numbers from which a box is computed
_SCORE_SPREAD: Final = 1.0
_WORD_SPREAD: Final = 3.0  # of a classifier's logits, of which the best then has a fair share
_LIKELY: Final = 0.001  # share of candidates that pass the usual threshold, some objects a picture
_THRESHOLD: Final = 0.25
_MOMENTUM: Final = 0.03  # ultralytics' own


def calibrate(network: Any, pictures: Sequence[NDArray[np.uint8]]) -> None:  # noqa: ANN401 - ultralytics has no types
    """Normalise a network's layers on `pictures`, and give its head a trained one's spread of answers."""
    stack = np.stack([picture[..., ::-1].transpose(2, 0, 1) for picture in pictures])
    batch = torch.from_numpy(stack).float() / 255
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # so that it takes the mean of what it sees
        norm.weight.data.fill_(_GAIN)
    with torch.no_grad():
        network.train()
        network(batch)
        network.eval()
        for norm in norms:
            norm.momentum = _MOMENTUM
        _spread(network, batch)


def _spread(network: Any, batch: torch.Tensor) -> None:  # noqa: ANN401 - as above
    head = network.model[-1]
    layers = _last_layers(head)
    answers: dict[Any, torch.Tensor] = {}
    for layer in layers:
        layer.bias.data.zero_()
    hooks = [layer.register_forward_hook(lambda one, _, answer: answers.update({one: answer})) for layer in layers]
    network(batch)
    for hook in hooks:
        hook.remove()
    for layer in layers:
        is_score = isinstance(layer, torch.nn.Conv2d) and layer.out_channels == head.nc
        spread = _SCORE_SPREAD if is_score else _WORD_SPREAD if isinstance(layer, torch.nn.Linear) else _BOX_SPREAD
        scale = spread / answers[layer].std()
        layer.weight.data *= scale
        if is_score:
            best = (answers[layer] * scale).amax(1).flatten()
            layer.bias.data.fill_(_logit(_THRESHOLD) - torch.quantile(best, 1 - _LIKELY))


def _last_layers(head: Any) -> list[Any]:  # noqa: ANN401 - as above
    """Return the layers that give boxes, scores, and what a task adds to them; of a classifier the one of its words."""
    if hasattr(head, "linear"):
        return [head.linear]
    added = getattr(head, "cv4", ())
    return [branch[-1] for branches in (head.cv2, head.cv3, added) for branch in branches]


def _logit(score: float) -> float:
    return float(np.log(score / (1 - score)))
