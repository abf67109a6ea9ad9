"""`changeover bench supply`: a line beside the fetching of a model, and the time from an order to its first answer."""

import hashlib
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any, Final

from agent.bench.figures import median, percentile, spread
from agent.bench.options import Options
from agent.bench.plant.bench_plant import Plant, Station
from agent.bench.plant.children import say
from agent.bench.plant.device import Device, started
from agent.bench.plant.models import BenchModel, Models, ensure
from agent.bench.plant.observer import Seen, gaps
from agent.bench.plant.warm_up import prepare, prepare_models
from agent.bench.swap.beside_a_load import full_speed
from agent.messages.errors import TransientError

_PACED: Final = "n"
_FETCHED: Final = "m"
_SHARE: Final = 0.5  # of full speed
_BUDGET: Final = "2GiB"
_STEADY_S: Final = 6.0
_SETTLE_S: Final = 2.0
_BYTES_PER_S: Final = 50_000_000
_PIECE: Final = 1 << 18
_METADATA: Final = b"\x72"  # tag of ModelProto.metadata_props in an ONNX file, whose entries may follow anything
_ENDS: Final = frozenset({"waiting", "done"})
_BAD_ENDS: Final = frozenset({"failed", "rejected", "superseded", "cancelled"})


def run(options: Options) -> dict[str, Any]:
    """Measure both scenes; each order is for a version of its own, of which nothing is on the device yet."""
    models = ensure(options.models_dir, (_PACED, _FETCHED), precision=options.precision)
    repeats = options.rounds or (1 if options.quick else 5)
    with _served(options.folder / "served") as server:
        return {
            "beside": _beside(models, options.folder, server, repeats),
            "order": _order(models, options.folder, server, repeats),
        }


@dataclass(frozen=True)
class _Server:
    """A folder that is served at 50 MB/s."""

    folder: Path
    port: int

    def new(self, model: BenchModel, version: str) -> dict[str, str]:
        """Serve `model` as a new version, whose bytes are its own; return its entry in an order."""
        file = self.folder / f"{model.name}-{version}.onnx"
        file.write_bytes(model.onnx.read_bytes() + _entry("version", version))
        return {
            "name": f"part-{model.name}",
            "variant": model.size,
            "version": version,
            "file": f"http://127.0.0.1:{self.port}/{file.name}",
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }


def _entry(key: str, value: str) -> bytes:
    """Return an entry of an ONNX file's metadata; both words are short."""
    inner = b"\x0a" + bytes([len(key)]) + key.encode() + b"\x12" + bytes([len(value)]) + value.encode()
    return _METADATA + bytes([len(inner)]) + inner


class _Paced(SimpleHTTPRequestHandler):
    """Sends files at 50 MB/s, and says nothing."""

    def copyfile(self, source: IO[bytes], outputfile: IO[bytes]) -> None:  # type: ignore[override] # of bytes alone
        """Send `source` in pieces, each when it is due."""
        due_s = time.monotonic()
        while piece := source.read(_PIECE):
            outputfile.write(piece)
            due_s += len(piece) / _BYTES_PER_S
            time.sleep(max(0.0, due_s - time.monotonic()))

    def log_message(self, *_: object) -> None:
        """Keep the terminal for the progress of the benchmark."""


@contextmanager
def _served(folder: Path) -> Iterator[_Server]:
    folder.mkdir(parents=True)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Paced, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield _Server(folder, server.server_port)
        finally:
            server.shutdown()
            thread.join()


def _beside(models: Models, folder: Path, server: _Server, repeats: int) -> dict[str, Any]:
    """Return a paced line's latency while a medium model is fetched, prepared and proven, over that before."""
    fps = full_speed(models, folder / "full", _PACED) * _SHARE
    plant = Plant(folder / "beside", models, (Station("1", round(fps, 1), _PACED),), _BUDGET)
    prepare_models(plant, [_PACED])
    steady: list[list[float]] = []
    busy: list[list[float]] = []
    missing, took_s = 0, []
    with started(plant) as device:
        for number in range(repeats):
            say(f"a line beside an order: {number + 1} of {repeats}")
            # Before the look, because a server's work is not the device's.
            entry = server.new(models[_FETCHED], str(number + 2))
            device.during(_SETTLE_S)
            frames = device.observer.frames["cam-1"]
            mark = len(frames)
            device.during(_STEADY_S)
            steady.append([one.latency_ms for one in frames[mark:]])
            mark, began_s = len(frames) - 1, time.monotonic()
            _finish(device, f"beside-{number}", number + 1, entry, "changeover")
            took_s.append(time.monotonic() - began_s)
            busy.append([one.latency_ms for one in frames[mark + 1 :]])
            missing += gaps(frames[mark:]).missing
    calm, during = ([one for window in windows for one in window] for windows in (steady, busy))
    pairs = list(zip(busy, steady, strict=True))
    return {
        "fps": fps,
        "p50_beside": median(percentile(one, 50) / percentile(other, 50) for one, other in pairs),
        "p99_beside": percentile(during, 99) / percentile(calm, 99),
        "steady_ms": spread(calm),
        "beside_ms": spread(during),
        "frames_lost": missing,
        "order_s": spread(took_s),
        "orders": repeats,
    }


def _order(models: Models, folder: Path, server: _Server, repeats: int) -> dict[str, Any]:
    """Return the time from an order for the line's own model to its first answer, over that of its parts alone.

    The parts: a plain download and its hash, `changeover models prepare` without an agent, and a cold changeover.
    """
    station = Station("1", 5.0, _PACED)
    plant = Plant(folder / "order", models, (station,), _BUDGET, names_versions=False)
    prepare_models(plant, [_PACED])
    whole_s, parts_s, missing = [], [], 0
    with started(plant) as device:
        device.bring("line-1", _PACED)
        for number in range(repeats):
            say(f"from an order to its model's answer: {number + 1} of {repeats}")
            device.during(_SETTLE_S)
            entry = server.new(models[_PACED], f"1{number}")
            frames, mark = device.observer.frames["cam-1"], len(device.observer.frames["cam-1"]) - 1
            began_s = time.monotonic()
            first = _first(device, f"order-{number}", number + 1, entry)
            whole_s.append(first.at_s - began_s)
            missing += gaps(frames[mark : frames.index(first) + 1]).missing
    for number in range(repeats):
        say(f"its parts alone: {number + 1} of {repeats}")
        parts_s.append(_parts_s(models, folder / f"parts-{number}", server, number))
    parts = {name: median(one[name] for one in parts_s) for name in parts_s[0]}
    return {
        "to_first_answer_s": spread(whole_s),
        "parts_s": parts,
        "vs_parts": median(whole_s) / sum(parts.values()),
        "frames_lost": missing,
        "bytes": models[_PACED].onnx.stat().st_size,
    }


def _parts_s(models: Models, folder: Path, server: _Server, number: int) -> dict[str, float]:
    entry = server.new(models[_PACED], f"9{number}")
    file = server.folder / entry["file"].rpartition("/")[2]
    began_s = time.monotonic()
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/{file.name}", timeout=60) as answer:
        found = hashlib.sha256(answer.read()).hexdigest()
    fetched_s = time.monotonic() - began_s
    assert found == entry["sha256"]
    own = replace(models, by_name={**models.by_name, "n-b": BenchModel("n-b", file, found)})
    plant = Plant(folder, own, (Station("1", 5.0, _FETCHED),), _BUDGET)
    prepare_models(plant, [_FETCHED])
    began_s = time.monotonic()
    prepare(plant.write(port=1), [own["n-b"].reference])
    prepared_s = time.monotonic() - began_s
    with started(plant) as device:
        device.bring("line-1", _FETCHED)
        device.during(_SETTLE_S)
        changeover_s = device.change_over("line-1", "n-b").to_first_ms / 1000
    return {"fetch": fetched_s, "prepare": prepared_s, "changeover": changeover_s}


def _finish(device: Device, job: str, rev: int, entry: dict[str, str], activate: str) -> None:
    _send(device, job, rev, entry, activate)
    device.until(lambda: _state(device, job) in _ENDS, f"the end of {job}")


def _first(device: Device, job: str, rev: int, entry: dict[str, str]) -> Seen:
    reference = f"{entry['name']}:{entry['variant']}@{entry['version']}"
    frames, mark = device.observer.frames["cam-1"], len(device.observer.frames["cam-1"])

    def first() -> Seen | None:
        _state(device, job)
        return next((one for one in frames[mark:] if one.model == reference), None)

    _send(device, job, rev, entry, "now")
    device.until(first, f"an answer of {reference}")
    found = first()
    assert found is not None, "it was waited for"
    return found


def _send(device: Device, job: str, rev: int, entry: dict[str, str], activate: str) -> None:
    device.send("models/set", json.dumps({"id": job, "rev": rev, "models": [entry], "activate": activate}))


def _state(device: Device, job: str) -> str:
    """Return how far an order is. Raises TransientError where it has failed."""
    said = device.observer.jobs.get(job)
    if said is not None and said.state in _BAD_ENDS:
        raise TransientError(f"{job}: {said.state}, {said.reason}: {said.detail}")
    return said.state if said is not None else ""
