"""Benchmark `canary`: the cost of a shadow beside a paced line, how the same model compares, and a canary's share."""

import json
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Final

from agent.bench.figures import curve, median, percentile, spread
from agent.bench.options import Options
from agent.bench.plant.bench_plant import Plant, Station
from agent.bench.plant.children import say
from agent.bench.plant.device import Device, started
from agent.bench.plant.models import Models, ensure
from agent.bench.plant.observer import Seen, gaps
from agent.bench.swap.beside_a_load import full_speed
from agent.messages.canary import Canary

_NAME: Final = "n"
_LINE, _STREAM = "line-1", "cam-1"
_SHARE: Final = 0.5
"""Of full speed."""
_WINDOW_S: Final = 10.0
_SETTLE_S: Final = 1.0
_PAIRS: Final = 6
_FRAMES: Final = 10_000
_CANARY_SHARE: Final = 0.1
_USUAL_SHARE: Final = 0.1
"""Share of a shadow where none is asked for."""
_LONGEST_S: Final = 5400.0


def run(options: Options) -> dict[str, Any]:
    """Measure both; `--quick` takes fewer frames."""
    models = ensure(options.models_dir, (_NAME,), precision=options.precision)
    fps = round(full_speed(models, options.folder / "full", _NAME) * _SHARE, 1)
    frames = _FRAMES // 20 if options.quick else _FRAMES
    pairs = 2 if options.quick else _PAIRS
    return {
        "paced_fps": fps,
        "shadow": _beside_a_line(models, options.folder / "paced", fps, pairs, _USUAL_SHARE),
        "shadow_of_all": _beside_a_line(models, options.folder / "paced", fps, pairs, 1.0),
        "same_model": _same_model(models, options.folder / "same", fps * _SHARE, frames),
        "canary": _canary(models, options.folder / "canary", frames),
    }


def _plant(models: Models, folder: Path, fps: float) -> Plant:
    return Plant(folder, models, (Station("1", fps, _NAME),), "2GiB", second_version=_NAME)


def _ask(device: Device, mode: str, share: float, frames: int) -> None:
    """Begin a comparison with version 2, and wait until it runs."""
    candidate = f"part-{_NAME}:{_NAME}@2"
    asked = {"candidate": candidate, "mode": mode, "share": share, "frames": max(10, frames)}
    device.observer.canary.pop(_LINE, None)
    device.send(f"line/{_LINE}/canary/set", json.dumps(asked))
    device.until(lambda: (one := _told(device)) is not None and one.stage == "running", "the comparison")


def _told(device: Device) -> Canary | None:
    return device.observer.canary.get(_LINE)


def _stop(device: Device) -> Canary:
    """End the comparison, and return its last numbers."""
    device.send(f"line/{_LINE}/canary/set", "stop")
    device.until(lambda: (one := _told(device)) is not None and one.stage == "ended", "the end of the comparison")
    told = _told(device)
    assert told is not None, "it was waited for"
    return told


def _window(device: Device, seconds: float) -> list[Seen]:
    mark = len(device.observer.frames[_STREAM])
    device.during(seconds)
    return device.observer.frames[_STREAM][mark:]


def _beside_a_line(models: Models, folder: Path, fps: float, pairs: int, share: float) -> dict[str, Any]:
    """Return the latency of a line at half of its full speed with a shadow of a share, over that without."""
    alone: list[list[Seen]] = []
    shadowed: list[list[Seen]] = []
    told: list[Canary] = []
    with started(_plant(models, folder, fps)) as device:
        for number in range(pairs):
            say(f"a shadow beside a paced line: {number + 1} of {pairs}")
            device.during(_SETTLE_S)
            alone.append(_window(device, _WINDOW_S))
            _ask(device, "shadow", share, _FRAMES)
            device.during(_SETTLE_S)
            shadowed.append(_window(device, _WINDOW_S))
            told.append(_stop(device))
    calm, busy = ([[one.latency_ms for one in window] for window in side] for side in (alone, shadowed))
    return {
        "p50": median(percentile(b, 50) / percentile(c, 50) for c, b in zip(calm, busy, strict=True)),
        "p99": percentile(list(chain(*busy)), 99) / percentile(list(chain(*calm)), 99),
        "alone_ms": spread(list(chain(*calm))) | {"curve": curve(list(chain(*calm)))},
        "shadowed_ms": spread(list(chain(*busy))) | {"curve": curve(list(chain(*busy)))},
        "frames_lost": sum(gaps(window).missing for window in shadowed),
        "frames_lost_alone": sum(gaps(window).missing for window in alone),
        "compared": sum(one.frames for one in told),
        "skipped": sum(one.skipped for one in told),
        "repeats": pairs,
    }


def _same_model(models: Models, folder: Path, fps: float, frames: int) -> dict[str, Any]:
    """Return what a shadow of the same file as another version is found to differ, over many frames."""
    say(f"a shadow of the same model over {frames} frames")
    with started(_plant(models, folder, fps)) as device:
        _ask(device, "shadow", 1.0, frames)
        device.until(lambda: (one := _told(device)) is not None and one.result != "running", "its frames", _LONGEST_S)
        told = _told(device)
        assert told is not None, "it was waited for"
    return {"frames": told.frames, "agree": told.agree, "result": told.result, "score_delta": told.score_delta}


def _canary(models: Models, folder: Path, frames: int) -> dict[str, Any]:
    """Return the share, the order and the names of many answers while a canary answers a tenth of them."""
    say(f"a canary of 10 % over {frames} frames")
    candidate = f"part-{_NAME}:{_NAME}@2"
    with started(_plant(models, folder, 0)) as device:
        _ask(device, "canary", _CANARY_SHARE, 10 * frames)
        mark = len(device.observer.frames[_STREAM])
        seen = device.observer.frames[_STREAM]
        device.until(lambda: len(seen) >= mark + frames, "its frames", _LONGEST_S)
        answers = seen[mark : mark + frames]
        told = _told(device)
        wrong = device.observer.wrong_model
    return {
        "frames": len(answers),
        "share": sum(one.model == candidate for one in answers) / len(answers),
        "out_of_order": sum(one.frame >= other.frame for one, other in pairwise(answers)),
        "wrong_model": wrong,
        "result": told.result if told is not None else None,
    }
