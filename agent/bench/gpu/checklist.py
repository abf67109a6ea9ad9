"""Builds an engine on this machine's GPU and tries all that the fakes of the tests cannot show: `scripts/on-jetson`.

The report holds figures and versions only: no host name, no address, no path, no serial number.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from agent import __version__
from agent.bench.figures import rounded
from agent.demo.assets import fetch
from agent.files import file_sha256, replace_file
from agent.inference import backends
from agent.inference.artifacts.artifact_store import ArtifactStore, Opened
from agent.inference.backends import Model
from agent.inference.cuda import device
from agent.inference.cuda.identity import identity_of
from agent.inference.memory.device_pool import DevicePool
from agent.inference.preparing.build_process import prepare
from agent.inference.processors.compute import split
from agent.inference.validation import drawn_pictures, parity
from agent.messages.errors import EXIT_FAILED, EXIT_OK, ChangeoverError, OutOfMemoryError
from agent.messages.references import ModelVersion
from agent.models.preparation import Request
from agent.processes.package_version import version_of

_BUDGET_BYTES: Final = 1 << 30
_MOST_RESIDENT: Final = 64
_FRAMES: Final = 200
_BEAT_S: Final = 0.001
_FRAME_SIDES: Final = (1080, 1920, 3)
_RELEASE: Final = re.compile(r"R\d+ \(release\), REVISION: [\d.]+")


@dataclass
class Bench:
    """State that the steps share."""

    version: ModelVersion
    compute: str
    cache_dir: Path
    swaps: int
    said: list[str] = field(default_factory=list)
    """Progress of the builds."""

    def opened(self) -> Opened:
        """Open the engine that was built."""
        key = backends.artifact_key(self.version, self.compute)
        opened = ArtifactStore(self.cache_dir).open(key) if key else None
        assert opened is not None, "the engine was built by the step before"
        return opened

    def load(self, name: str = "") -> Model:
        """Load the engine; `name` is whose GPU memory it counts as."""
        version = self.version
        if name:
            version = ModelVersion(name, "n", "1", version.path, version.sha256, confidence=version.confidence)
        return backends.restore(version, self.opened(), self.compute, self.cache_dir)

    @property
    def pool(self) -> DevicePool:
        """The pool of the GPU."""
        pool = device.DEVICES.open(0).pool
        assert isinstance(pool, DevicePool)
        return pool


Figures = dict[str, Any]
Step = Callable[[Bench], Figures]


def look(bench: Bench) -> Figures:
    """Tell which GPU, driver and TensorRT there are."""
    backends.require_processor(bench.version, "tensorrt", bench.compute)
    gpu = identity_of(split(bench.compute)[1])
    return {
        "gpu": gpu.name,
        "sm": gpu.sm,
        "driver": gpu.driver,
        "is_integrated": gpu.is_integrated,
        "tensorrt": version_of("tensorrt"),
        "l4t": _first(_RELEASE, Path("/etc/nv_tegra_release")),
        "power_mode": _power_mode(),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "changeover": __version__,
    }


def build(bench: Bench) -> Figures:
    """Build the engine twice, in the walled process; the second time with the timings of the first."""
    took_s = []
    for _ in range(2):
        key = backends.artifact_key(bench.version, bench.compute)
        if key is not None and ArtifactStore(bench.cache_dir).find(key):
            ArtifactStore(bench.cache_dir).discard(key, "it is built once more, with the timings of the first build")
        began_s = time.monotonic()
        outcome = prepare(Request(bench.version, bench.compute, str(bench.cache_dir)), bench.said.append)
        took_s.append(time.monotonic() - began_s)
        if outcome.result != "prepared":
            raise AssertionError(outcome.detail)
    steps = [text.replace(bench.version.path, "the model") for text in bench.said[-12:]]
    return {"first_s": took_s[0], "second_s": took_s[1], "profile": outcome.profile, "steps": steps}


def compare(bench: Bench) -> Figures:
    """Compare the engine's detections with the processor's."""
    seen = list(drawn_pictures.busy())
    file, engine = backends.load_for(bench.version, bench.compute, "f32"), bench.load()
    try:
        found = parity.compare(
            parity.answers(file, seen), [engine.infer(picture) for picture in seen], bench.version.confidence
        )
    finally:
        file.close()
        engine.close()
    assert found.is_enough, str(found)
    return {"boxes": found.boxes, "matched": found.matched, "score_difference": found.score_difference}


def time_frames(bench: Bench) -> Figures:
    """Time frames of 1080p, alone and while another thread loads engines; and how long other threads stand still."""
    engine = bench.load()
    frame = np.random.default_rng(0).integers(0, 255, _FRAME_SIDES, np.uint8)
    alone_ms = _frames_ms(engine, frame)
    over = threading.Event()
    loads_ms: list[float] = []

    def load_again() -> None:
        while not over.is_set():
            began_s = time.monotonic()
            bench.load("beside").close()
            loads_ms.append((time.monotonic() - began_s) * 1000)

    with _longest_stall() as stalls_ms:
        loader = threading.Thread(target=load_again)
        loader.start()
        try:
            beside_ms = _frames_ms(engine, frame)
        finally:
            over.set()
            loader.join()
    engine.close()
    return {
        "frame_ms": _spread(alone_ms),
        "frame_beside_loads_ms": _spread(beside_ms),
        "load_ms": _spread(loads_ms),
        "longest_stall_of_another_thread_ms": max(stalls_ms, default=0.0),
    }


def swap(bench: Bench) -> Figures:
    """Swap engines, with frames between; all GPU memory is back after each release, and MemAvailable at the end."""
    picture = next(iter(drawn_pictures.busy()))
    serving = bench.load("even")
    expected, used_bytes = len(serving.infer(picture)), bench.pool.used_bytes
    free_bytes = _free_bytes(bench)
    swaps_ms = []
    for number in range(bench.swaps):
        began_s = time.monotonic()
        following = bench.load("odd" if number % 2 == 0 else "even")
        assert len(following.infer(picture)) == expected, f"swap {number} found another count of objects"
        swaps_ms.append((time.monotonic() - began_s) * 1000)
        serving.close()
        serving = following
        del following
        assert bench.pool.used_bytes == used_bytes, f"swap {number} left GPU memory"
    left = _missing_bytes(bench, free_bytes)
    serving.close()
    del serving
    assert bench.pool.used_bytes == 0, "GPU memory is left after the last release"
    return {"swaps": bench.swaps, "swap_ms": _spread(swaps_ms), "bytes_not_back": left}


def fill(bench: Bench) -> Figures:
    """Load engines until the budget refuses, and compare what the pool counts with what the device misses."""
    resident: list[Model] = []
    before_bytes = _free_bytes(bench)
    refused = False
    most_bytes = 0
    alone_bytes = 0
    while not refused and len(resident) < _MOST_RESIDENT:
        try:
            resident.append(bench.load(f"copy{len(resident)}"))
        except OutOfMemoryError:
            refused = True
        alone_bytes = alone_bytes or bench.pool.used_bytes
        most_bytes = max(most_bytes, bench.pool.used_bytes)
    missing = _missing_bytes(bench, before_bytes)
    count = len(resident)
    for model in resident:
        model.close()
    resident.clear()
    assert most_bytes <= bench.pool.limit_bytes, "the budget was exceeded"
    return {
        "budget_bytes": bench.pool.limit_bytes,
        "engines": count,
        "was_refused": refused,
        "one_bytes": alone_bytes,
        "all_bytes": most_bytes,
        "missing_on_the_device_bytes": missing,
    }


STEPS: Final[dict[str, Step]] = {
    "device": look,
    "build": build,
    "parity": compare,
    "frames": time_frames,
    "swaps": swap,
    "budget": fill,
}


def run(bench: Bench, say: Callable[[str], None]) -> dict[str, Any]:
    """Run all steps; a step that fails is told, and those after it are tried as well, unless there is no engine."""
    report: dict[str, Any] = {}
    for name, step in STEPS.items():
        began_s = time.monotonic()
        try:
            figures, error = step(bench), None
        except (ChangeoverError, AssertionError, OSError, RuntimeError) as failure:
            figures, error = {}, f"{type(failure).__name__}: {failure}".replace(bench.version.path, "the model")
        report[name] = {"passed": error is None, "took_s": time.monotonic() - began_s, "error": error, **figures}
        say(f"{name}: {'passed' if error is None else error}")
        if error is not None and name in {"device", "build"}:
            break
    report["passed"] = set(STEPS) <= set(report) and all(report[name]["passed"] for name in STEPS)
    return report


def _frames_ms(engine: Model, frame: Any) -> list[float]:  # noqa: ANN401 - an array
    took_ms = []
    for _ in range(_FRAMES):
        began_s = time.perf_counter()
        engine.answer(engine.prepare(frame), nullcontext())
        took_ms.append((time.perf_counter() - began_s) * 1000)
    return took_ms


@contextmanager
def _longest_stall() -> Iterator[list[float]]:
    """Measure, in ms, how much later than asked a thread runs that only sleeps: what holds Python's lock delays it."""
    stalls_ms: list[float] = []
    over = threading.Event()

    def beat() -> None:
        while not over.is_set():
            began_s = time.monotonic()
            time.sleep(_BEAT_S)
            stalls_ms.append((time.monotonic() - began_s - _BEAT_S) * 1000)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield stalls_ms
    finally:
        over.set()
        thread.join()


def _spread(numbers: list[float]) -> dict[str, float]:
    if not numbers:
        return {}
    found = np.percentile(numbers, (50, 99, 100))
    return dict(zip(("median", "p99", "most"), (float(one) for one in found), strict=True))


def _free_bytes(bench: Bench) -> dict[str, int]:
    """Return the free bytes by the kernel and by the driver; the two mean the same memory on a Jetson."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    return {"MemAvailable": available, "cuMemGetInfo": bench.pool.info()[0]}


def _missing_bytes(bench: Bench, before_bytes: dict[str, int]) -> dict[str, int]:
    now_bytes = _free_bytes(bench)
    return {name: size_bytes - now_bytes[name] for name, size_bytes in before_bytes.items()}


def _power_mode() -> str | None:
    try:
        asked = subprocess.run(["nvpmodel", "-q"], capture_output=True, text=True, check=False, timeout=10)  # noqa: S607
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"NV Power Mode: (\S+)", asked.stdout)
    return found[1] if found else None


def _first(pattern: re.Pattern[str], path: Path) -> str | None:
    try:
        found = pattern.search(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    return found[0] if found else None


def main(arguments: list[str]) -> int:
    """Run the checklist and write its report; return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/on-jetson", description=__doc__)
    parser.add_argument("--model", type=Path, help="an ONNX detection model; without it the demo's is fetched")
    parser.add_argument("--swaps", type=int, default=1000)
    parser.add_argument("--compute", default="tensorrt:0")
    parser.add_argument("--report", type=Path, default=Path("on-jetson.json"))
    asked = parser.parse_args(arguments)
    path = asked.model or fetch().fall_onnx
    version = ModelVersion("checklist", "n", "1", str(path.absolute()), file_sha256(path))
    device.DEVICES.count_with(partial(DevicePool, _BUDGET_BYTES))
    with tempfile.TemporaryDirectory(prefix="changeover-gpu-") as folder:
        report = run(Bench(version, asked.compute, Path(folder), asked.swaps), lambda text: print(text, flush=True))  # noqa: T201
    replace_file(asked.report, json.dumps(rounded(report), indent=1).encode() + b"\n", sync=False)
    print(f"{'all passed' if report['passed'] else 'not all passed'}: {asked.report}")  # noqa: T201
    return EXIT_OK if report["passed"] else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
