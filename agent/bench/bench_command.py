"""Entry of `changeover bench`."""

import importlib
import json
import os
import platform
import signal
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any, Final

from agent import __version__
from agent.bench.figures import rounded
from agent.bench.options import Options
from agent.bench.plant.children import say
from agent.messages.errors import EXIT_FAILED, EXIT_OK

NAMES: Final = ("cache", "canary", "gateway", "memory", "outbox", "pipeline", "recovery", "supply", "swap", "tasks")
"""Names of benchmarks, each a module with `run(options)` that returns its figures."""
_SWAPS: Final = 1000
_FEW: Final = 40
_LIBRARIES: Final = ("openvino", "onnxruntime", "torch", "ultralytics", "opencv-python", "paho-mqtt")


_MODULES: Final = {name: f"{name}.{name}" for name in ("pipeline", "swap", "cache", "gateway", "memory", "tasks")}


def run(  # noqa: PLR0913 - the command line's options
    name: str,
    *,
    swaps: int | None,
    quick: bool,
    as_json: bool,
    rounds: int | None,
    seconds: float | None,
    precision: str | None,
    part: str | None,
    size: str | None,
) -> int:
    """Run one benchmark; print its figures as one line of JSON, or as indented JSON. None: the benchmark's own."""
    signal.signal(signal.SIGTERM, _interrupt)  # so that what was started is ended
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="changeover-bench-") as folder:
        few = swaps or (_FEW if quick else _SWAPS)
        only = part or "", int(size or 0)
        options = Options(Path(folder), few, quick, rounds or 0, seconds or 0.0, precision or "", *only)
        try:
            figures = importlib.import_module(f"agent.bench.{_MODULES.get(name, name)}").run(options)
        except KeyboardInterrupt:
            say("stopped before its end; there are no figures")
            return EXIT_FAILED
    result = {
        "benchmark": name,
        "quick": quick,
        "took_s": time.monotonic() - began_s,
        "machine": machine(),
        **figures,
    }
    sys.stdout.write(json.dumps(rounded(result), indent=None if as_json else 2) + "\n")
    return EXIT_OK


def machine() -> dict[str, Any]:
    """Return a description of the machine and its software."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_average": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}",
        "python": platform.python_version(),
        "changeover": __version__,
        "versions": {library: metadata.version(library) for library in _LIBRARIES if _is_installed(library)},
    }


def _is_installed(library: str) -> bool:
    try:
        metadata.version(library)
    except metadata.PackageNotFoundError:
        return False
    return True


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
