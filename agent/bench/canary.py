"""Benchmark `canary`: the cost of a shadow beside a paced line, how the same model compares, and a canary's share."""

import hashlib
import json
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Final

import onnx
from onnx import numpy_helper

from agent.bench.figures import curve, median, percentile, spread
from agent.bench.options import Options
from agent.bench.plant.bench_plant import Plant, Station
from agent.bench.plant.children import say
from agent.bench.plant.device import Device, started
from agent.bench.plant.models import BenchModel, Models, ensure
from agent.bench.plant.observer import Seen, gaps, is_answer_of
from agent.bench.plant.warm_up import precision_of, prepare_models
from agent.bench.swap.beside_a_load import full_speed
from agent.inference.comparing.share import is_of_share
from agent.messages.canary import Canary
from agent.messages.payloads import DetectionsPayload

_NAME: Final = "n"
_SECOND: Final = "n@2"
"""Product of the candidate, by which nothing asks."""
_LINE: Final = "line-1"
_SHARE: Final = 0.5
"""Of full speed."""
_SECONDS: Final = 10.0
_SETTLE_S: Final = 1.0
_ROUNDS: Final = 8
_KINDS: Final = {"alone": 0.0, "shadow": 0.1, "shadow_of_all": 1.0}
"""Share of the frames that a shadow infers; 0.1 where none is asked for."""
_FRAMES: Final = 10_000
_QUICK_FRAMES: Final = 500
_SMALL: Final = 160
"""Side of the pictures where frames are counted, not timed."""
_CAMERAS: Final = 2
_FPS: Final = 25.0
"""Of each of the cameras, where the device has time for that."""
_SLACK: Final = 0.25
"""Most of full speed that these cameras take together, because a shadow infers three pictures a frame."""
_CANARY_SHARE: Final = 0.1
_LONGEST_S: Final = 5400.0
_BUDGET: Final = "2GiB"
_MARKER: Final = "marker"
_WIDER: Final = 6
"""Pixels by which the constant object of the canary's candidate is wider, a difference that still agrees."""


def run(options: Options) -> dict[str, Any]:
    """Measure all parts, or one; `--quick` takes fewer frames."""
    parts = {"latency": _latency, "same": _same_model, "share": _canary}
    return {name: part(options) for name, part in parts.items() if options.part in {"", name}}


def _plant(models: Models, folder: Path, station: Station) -> Plant:
    """Return a plant whose models are prepared, so that nothing but the comparison is done meanwhile."""
    plant = Plant(folder, models, (station,), _BUDGET)
    prepare_models(plant, models.by_name)
    return plant


def _with_second(models: Models, file: Path | None = None) -> Models:
    """Return the models with a version 2 of the only one: the same file, or another."""
    first = models[_NAME]
    path = file or first.onnx
    second = BenchModel(_NAME, path, hashlib.sha256(path.read_bytes()).hexdigest(), "2")
    return replace(models, by_name={_NAME: first, _SECOND: second})


def _ask(device: Device, models: Models, mode: str, share: float, frames: int) -> None:
    """Begin a comparison with version 2, and wait until it runs."""
    asked = {"candidate": models[_SECOND].reference, "mode": mode, "share": share, "frames": frames}
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


# a paced line


def _latency(options: Options) -> dict[str, Any]:
    """Return the latency of a line at half of its full speed with a shadow, over that of the windows without.

    Each round has one window of each kind, in an order that turns, with the same models in memory.
    """
    models = _with_second(ensure(options.models_dir, (_NAME,), precision=options.precision))
    folder = options.folder / "paced"
    plant = _plant(models, folder, Station("1", 0, _NAME))
    full_fps = full_speed(models, folder, _NAME)
    plant = replace(plant, stations=(Station("1", round(full_fps * _SHARE, 1), _NAME),))
    seconds = options.seconds or (3.0 if options.quick else _SECONDS)
    rounds = options.rounds or (2 if options.quick else _ROUNDS)
    windows: dict[str, list[list[Seen]]] = {kind: [] for kind in _KINDS}
    told: dict[str, list[Canary]] = {kind: [] for kind in _KINDS}
    with started(plant) as device:
        for share in _KINDS.values():
            _window(device, models, share, _SETTLE_S)  # what is first of its kind costs more
        for number in range(rounds):
            say(f"a shadow beside a paced line: round {number + 1} of {rounds}")
            kinds = list(_KINDS)[number % len(_KINDS) :] + list(_KINDS)[: number % len(_KINDS)]
            for kind in kinds:
                window, counted = _window(device, models, _KINDS[kind], seconds)
                windows[kind].append(window)
                told[kind] += counted
    alone = windows["alone"]
    return {
        "full_fps": full_fps,
        "paced_fps": plant.stations[0].fps,
        "precision": precision_of(plant, _NAME),
        "seconds": seconds,
        "alone_ms": _spread(alone),
        "frames_lost_alone": _lost(alone),
        # What the ratios of two equal halves are: how much the ratios below say.
        "alone_over_alone": _ratios(alone[1::2], alone[: len(alone) // 2 * 2 : 2]),
    } | {
        kind: _ratios(windows[kind], alone)
        | {
            "ms": _spread(windows[kind]),
            "frames_lost": _lost(windows[kind]),
            "compared": sum(one.frames for one in told[kind]),
            "skipped": sum(one.skipped for one in told[kind]),
        }
        for kind, share in _KINDS.items()
        if share
    }


def _window(device: Device, models: Models, share: float, seconds: float) -> tuple[list[Seen], list[Canary]]:
    """Return the frames of some seconds with a shadow of a share, and what it counted; 0.0: without one."""
    if share:
        _ask(device, models, "shadow", share, _FRAMES)
    device.during(_SETTLE_S)
    frames = device.observer.frames["cam-1"]
    mark = len(frames)
    device.during(seconds)
    found = frames[mark:]
    return found, [_stop(device)] if share else []


def _ratios(ours: list[list[Seen]], theirs: list[list[Seen]]) -> dict[str, float]:
    """Return the median of the pairs' p50, and p99 of all frames together, over theirs."""
    pairs = zip(ours, theirs, strict=True)
    p50 = median(percentile(_ms([one]), 50) / percentile(_ms([other]), 50) for one, other in pairs)
    return {"p50": p50, "p99": percentile(_ms(ours), 99) / percentile(_ms(theirs), 99)}


def _ms(windows: list[list[Seen]]) -> list[float]:
    return [one.latency_ms for one in chain(*windows)]


def _spread(windows: list[list[Seen]]) -> dict[str, Any]:
    return spread(_ms(windows)) | {"curve": curve(_ms(windows))}


def _lost(windows: list[list[Seen]]) -> int:
    return sum(gaps(window).missing for window in windows)


# many frames


def _counting(options: Options, folder: Path, file: Path | None = None) -> tuple[Plant, Models]:
    """Return a plant with two cameras of small pictures, slow enough that each compared frame has its time."""
    models = _with_second(ensure(options.models_dir / f"small-{_SMALL}", (_NAME,), _SMALL, options.precision), file)
    plant = _plant(models, folder, Station("1", 0, _NAME))
    fps = min(_FPS, round(full_speed(models, folder, _NAME) * _SLACK / _CAMERAS, 1))
    return replace(plant, stations=(Station("1", fps, _NAME, cameras=_CAMERAS),)), models


def _frames(options: Options) -> int:
    return _QUICK_FRAMES if options.quick else _FRAMES


def _same_model(options: Options) -> dict[str, Any]:
    """Return what a shadow of the same file as another version is found to differ, over many frames."""
    frames = _frames(options)
    plant, models = _counting(options, options.folder / "same")
    say(f"a shadow of the same model over {frames} frames")
    with started(plant) as device:
        _ask(device, models, "shadow", 1.0, frames)
        device.until(lambda: (one := _told(device)) is not None and one.result != "running", "its frames", _LONGEST_S)
        told = _told(device)
        assert told is not None, "it was waited for"
    return {
        "fps": plant.stations[0].fps * _CAMERAS,
        "frames": told.frames,
        "objects": sum(one.stable for one in told.classes.values()),
        "agree": told.agree,
        "missing": told.missing,
        "extra": told.extra,
        "score_delta": told.score_delta,
        "unsteady": told.unsteady,
        "skipped": told.skipped,
        "result": told.result,
        "reason": told.reason,
    }


def _canary(options: Options) -> dict[str, Any]:
    """Return the share, the order and the names of many answers while a canary answers a tenth of them."""
    frames = _frames(options)
    file = options.folder / "wider.onnx"
    base = ensure(options.models_dir / f"small-{_SMALL}", (_NAME,), _SMALL, options.precision)
    width = _widen(base[_NAME].onnx, file)
    plant, models = _counting(options, options.folder / "canary", file)
    candidate = models[_SECOND].reference

    def is_right(one: DetectionsPayload) -> bool:
        """Return True for an answer with the constant object of the model that it names."""
        found = max(one.objects, key=lambda item: item.score, default=None)
        is_wide = found is not None and found.box[2] - found.box[0] > width - _WIDER / 2
        return is_answer_of(one) and is_wide == (one.model == candidate)

    say(f"a canary of 10 % over {frames} frames")
    with started(plant) as device:
        device.observer.is_right = is_right
        _ask(device, models, "canary", _CANARY_SHARE, 100 * frames)
        device.during(_SETTLE_S)
        streams = [device.observer.frames[stream] for stream in plant.stations[0].streams]
        marks, wrong = [len(seen) for seen in streams], device.observer.wrong_model
        device.until(lambda: sum(map(len, streams)) >= sum(marks) + frames, "its frames", _LONGEST_S)
        answers = [seen[mark:] for seen, mark in zip(streams, marks, strict=True)]
        wrong = device.observer.wrong_model - wrong
        told = _stop(device)
    taken = [one for one in chain(*answers) if one.model == candidate]
    return {
        "fps": plant.stations[0].fps * _CAMERAS,
        "frames": sum(map(len, answers)),
        "share": len(taken) / sum(map(len, answers)),
        "of_the_share_by_number": sum(is_of_share(one.frame, _CANARY_SHARE) for one in chain(*answers)),
        "by_the_candidate": len(taken),
        "outside_of_the_share": sum(not is_of_share(one.frame, _CANARY_SHARE) for one in taken),
        "late": told.late,
        "out_of_order": sum(one.frame >= other.frame for seen in answers for one, other in pairwise(seen)),
        "missing": _lost(answers),
        "wrong_model": wrong,
        "agree": told.agree,
        "reason": told.reason,
    }


def _widen(plain: Path, path: Path) -> int:
    """Write a copy whose constant object is a little wider, as its box tells; return its width in pixels."""
    model = onnx.load(plain)
    [marker] = [one for one in model.graph.initializer if one.name == _MARKER]
    candidate = numpy_helper.to_array(marker).copy()
    candidate[0, 2, 0] += _WIDER
    marker.CopyFrom(numpy_helper.from_array(candidate, _MARKER))
    onnx.save(model, path)
    return int(candidate[0, 2, 0])
