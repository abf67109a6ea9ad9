"""Measures a paced line beside a saturating client, and the time that the gateway itself takes."""

import hashlib
import socket
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import psutil

from agent.bench.figures import percentile, spread
from agent.bench.gateway.requesting import TOKEN, Asked, Requester, saturating
from agent.bench.options import Options
from agent.bench.plant.bench_plant import Plant, Station
from agent.bench.plant.children import runs, say
from agent.bench.plant.device import Device, started
from agent.bench.plant.models import IMGSZ, Models, ensure
from agent.bench.plant.observer import Seen, gaps
from agent.bench.plant.warm_up import precision_of, prepare_models, profile_of
from agent.bench.swap.beside_a_load import full_speed

_SIZES: Final = (320, IMGSZ)
"""Sizes of pictures in pixels: at the small one the requests' own work weighs most, the other is what lines run at."""
_SHARE: Final = 0.5
"""Of the line's full speed."""
_SECONDS: Final = 8.0
_ROUNDS: Final = 3
_SETTLE_S: Final = 6.0
"""Time after the start in which frames are slow, alone or not."""
_QUICK_S: Final = 2.0
_HARDLY_EVER_FPS: Final = 0.001
_NAMES: Final = ("n", "n-b", "s")
_BUDGET: Final = "2GiB"
_REQUESTS: Final = 200
_WEB: Final = "agent.web.web_process"
_TIDY_S: Final = 8.0
"""Time after the last request in which the web process gives back what it no longer needs."""


def run(options: Options) -> dict[str, Any]:
    """Measure the line beside a client on its own model, on another resident one, and on cold ones in turn."""
    return {str(size): _measure(options, size) for size in _SIZES if options.size in {0, size}}


def _measure(options: Options, size: int) -> dict[str, Any]:
    home = options.folder / f"plant-{size}"  # one for all agents, because one without artifacts builds them meanwhile
    folder = options.models_dir if size == IMGSZ else options.models_dir / f"small-{size}"
    models = ensure(folder, _NAMES, size, options.precision)
    rehearsal = Plant(home, models, (Station("1", 1, "n"),), _BUDGET)
    prepare_models(rehearsal, _NAMES)
    full_fps = full_speed(models, home, "n")
    fps = round(full_fps * _SHARE, 1)
    seconds = options.seconds or (_QUICK_S if options.quick else _SECONDS)
    rounds = options.rounds or (1 if options.quick else _ROUNDS)
    plant = _plant(options, home, models, Station("1", fps, "n"))
    kinds = {"same": (["n"], False), "resident": (["n-b"], False), "cold": (["s", "n-b"], True)}
    steady: list[Seen] = []
    beside: dict[str, list[Seen]] = {kind: [] for kind in kinds}
    lost = dict.fromkeys(kinds, 0)
    missing_alone = 0
    asked: dict[str, list[Asked]] = {kind: [] for kind in kinds}
    with started(plant) as device:
        _until_ready(device, plant)
        device.during(_SETTLE_S)
        for number in range(rounds):
            for kind, (names, is_cold) in kinds.items():
                say(f"a client on a {kind} model: round {number + 1} of {rounds}")
                paths = [models[name].reference.partition("@")[0] for name in names]
                if not is_cold:
                    Requester(plant.web_port, size).repository(paths[0], "load")
                calm = _window(device, seconds)
                steady += calm
                missing_alone += gaps(calm).missing
                with saturating(plant.web_port, size, paths, is_cold=is_cold) as said:
                    device.during(0.5)
                    window = _window(device, seconds)
                beside[kind] += window
                lost[kind] += gaps(window).missing
                asked[kind].append(said)
        web = _web_bytes(device)
        device.during(_TIDY_S)
        idle = _web_bytes(device)
    calm_ms = [one.latency_ms for one in steady]
    answered = sum(one.answered for one in asked["same"]) / (rounds * (seconds + 0.5))
    return {
        "full_fps": full_fps,
        "paced_fps": fps,
        "precision": precision_of(rehearsal, "n"),
        "frames_at_once": profile_of(rehearsal, "n").requests,
        "line_p99_vs_alone": {kind: _p99(frames) / percentile(calm_ms, 99) for kind, frames in beside.items()},
        "line_p50_vs_alone": {
            kind: percentile([one.latency_ms for one in frames], 50) / percentile(calm_ms, 50)
            for kind, frames in beside.items()
        },
        "frames_lost": lost,
        "frames_missing_alone": missing_alone,
        "line_alone_ms": spread(calm_ms),
        "of_the_remaining_throughput": answered / (full_fps - fps),
        "requests_per_s": answered,
        "refused": {kind: sum(one.busy for one in said) for kind, said in asked.items()},
        "answered": {kind: sum(one.answered for one in said) for kind, said in asked.items()},
        "idle": _idle(options, home, models),
        "web_process_bytes": web,
        "web_process_idle_bytes": idle,
    }


def _idle(options: Options, home: Path, models: Models) -> dict[str, Any]:
    """Return the time from JPEG to JSON beyond decoding and the network, on a box whose line has no frames."""
    station = Station("1", _HARDLY_EVER_FPS, "n", stalls=False)
    plant = replace(_plant(options, home, models, station), stations=(station, Station("2", 1, "n")))
    asked = Asked()
    with started(plant) as device:
        _until_ready(device, plant)
        begun = _web_bytes(device)
        requester, path = Requester(plant.web_port, models.imgsz), models["n"].reference.partition("@")[0]
        for _ in range(20 if options.quick else _REQUESTS):
            requester.detect(path, asked)
        web = _web_bytes(device)
        device.during(_TIDY_S)
        idle = _web_bytes(device)
    return {
        "own_ms": spread(asked.own_ms),
        "whole_ms": spread(asked.whole_ms),
        "web_process_begun_bytes": begun,
        "web_process_bytes": web,
        "web_process_idle_bytes": idle,
    }


def _plant(options: Options, home: Path, models: Models, station: Station) -> Plant:
    options.folder.mkdir(parents=True, exist_ok=True)
    token = options.folder / "token"
    token.write_text(f"sha256:{hashlib.sha256(TOKEN.encode()).hexdigest()}")
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    return Plant(home, models, (station,), _BUDGET, web_port=port, web_token=token)


def _until_ready(device: Device, plant: Plant) -> None:
    device.bring("line-1", "n")
    requester = Requester(plant.web_port, plant.models.imgsz)
    device.until(requester.is_ready, "the gateway")


def _window(device: Device, seconds: float) -> list[Seen]:
    mark = len(device.observer.frames["cam-1"])
    device.during(seconds)
    return device.observer.frames["cam-1"][mark:]


def _p99(frames: list[Seen]) -> float:
    return percentile([one.latency_ms for one in frames], 99)


def _web_bytes(device: Device) -> int:
    children = psutil.Process(device.pid).children()
    return next(child.memory_full_info().pss for child in children if runs(child, _WEB))
