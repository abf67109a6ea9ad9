"""Test process of one model for `doctor`, with the arguments COMPUTE and CACHE_DIR.

Reads a version from stdin, verifies its files, loads it, warms it up and checks it on its golden pictures; prints one
line of JSON. A runtime that crashes or hangs ends only this process.
"""

import os
import sys
import time
from functools import partial
from pathlib import Path

import msgspec

from agent.inference.artifacts.artifact_store import become_owner
from agent.inference.backends import FellBackError, Model, NotPreparedError, held_device_bytes, load, processor_of
from agent.inference.cuda import device
from agent.inference.memory import process_memory
from agent.inference.memory.device_pool import DevicePool
from agent.inference.memory.runtime_overhead import RUNTIMES_OWN_BYTES
from agent.inference.validation.golden import prove, warm_up
from agent.messages.errors import ChangeoverError
from agent.messages.references import ModelVersion
from agent.messages.short_lived.probe_results import ProbedModel
from agent.models.file_faults import verify
from agent.processes.parent_death import die_with_parent


def attempt(version: ModelVersion, compute: str, cache_dir: Path) -> ProbedModel:
    """Load `version` and run its checks; the result's `bytes` is the memory added, without its runtime's own.

    Of GPU memory it is all that the runtime's allocator holds, scratch included.
    """
    device.DEVICES.count_with(partial(DevicePool, sys.maxsize))
    try:
        verify(version)
        before_bytes = process_memory.process_bytes()
        begun_s = time.monotonic()
        model = _load(version, compute, cache_dir)
        warm_up(model)
        prove(model, version)
    except NotPreparedError as error:
        return ProbedModel(error=str(error), is_unprepared=True)
    except ChangeoverError as error:
        return ProbedModel(error=str(error))
    load_ms = (time.monotonic() - begun_s) * 1000
    process_memory.trim()
    brought_bytes = max(0, process_memory.process_bytes() - before_bytes - RUNTIMES_OWN_BYTES)
    bytes_ = brought_bytes + max(model.device_bytes or 0, held_device_bytes())
    return ProbedModel(None, processor_of(model, version, compute), model.reading, round(load_ms, 1), bytes_)


def _load(version: ModelVersion, compute: str, cache_dir: Path) -> Model:
    try:
        return load(version, compute, cache_dir)
    except FellBackError:
        return load(version, compute, cache_dir)  # which takes the CPU now


if __name__ == "__main__":
    wanted = msgspec.json.decode(sys.stdin.buffer.read(), type=ModelVersion)
    become_owner(Path(sys.argv[2]))
    die_with_parent(os.getppid())  # because a model may loop for ever
    sys.stdout.buffer.write(msgspec.json.encode(attempt(wanted, sys.argv[1], Path(sys.argv[2]))) + b"\n")
