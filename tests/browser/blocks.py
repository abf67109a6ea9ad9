"""Blocks of some seconds of a line, with and without viewers, and how they compare."""

import statistics
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil


@dataclass(frozen=True)
class Block:
    """Some seconds of line-1."""

    fps: float
    """Frames a second of each of its streams."""
    latencies_ms: list[float]
    """Of each frame."""
    cpu: dict[str, float]
    """Processor time of the agent's processes, ms a second."""


def compared(without: list[Block], with_: list[Block]) -> dict[str, Any]:
    """Return the ratios of blocks with viewers to those with none: medians over the rounds, and of all frames."""
    pairs = list(zip(without, with_, strict=True))
    p50, p99 = ([_percentile(b, q) / _percentile(a, q) for a, b in pairs] for q in (50, 99))
    pooled = [_percentile_of([ms for one in blocks for ms in one.latencies_ms], 99) for blocks in (without, with_)]
    return {
        "fps_ratio": round(statistics.median(b.fps / a.fps for a, b in pairs), 3),
        "p50_ratio": round(statistics.median(p50), 3),
        "p99_ratio": round(statistics.median(p99), 3),
        "p99_ratios": [round(one, 3) for one in p99],
        "all_p99_ratio": round(pooled[1] / pooled[0], 3),
        "all_p99_ms": [round(one, 1) for one in pooled],
        "cpu_ms_per_s": [_mean([one.cpu for one in blocks]) for blocks in (without, with_)],
    }


def _percentile(block: Block, percent: float) -> float:
    return _percentile_of(block.latencies_ms, percent)


def _percentile_of(values: list[float], percent: float) -> float:
    return float(np.percentile(values, percent))


def _mean(found: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.mean(one[name] for one in found), 1) for name in found[0]}


def cpu_s(pid: int) -> dict[str, float]:
    """Return the processor time that an agent's processes have used, by what they are."""
    agent = psutil.Process(pid)
    found: dict[str, float] = {}
    for process in (agent, *agent.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            module = next((word for word in process.cmdline() if word.startswith("agent.")), "agent.control")
            used, name = process.cpu_times(), module.split(".")[1]
            found[name] = found.get(name, 0.0) + used.user + used.system
    return found
