"""Probe process of `doctor`: prints which processor the argument COMPUTE chooses, as one line of JSON.

It is a separate process, because a driver may hang or crash.
"""

import os
import sys

import msgspec

from agent.inference.processors.compute import choose, faults
from agent.messages.short_lived.probe_results import ProbedCompute
from agent.processes.package_version import fault_of_onnxruntime, version_of
from agent.processes.parent_death import die_with_parent


def probe(setting: str) -> ProbedCompute:
    """Return what `setting` chooses, why, and what the GPU lacks."""
    chosen = choose(setting)
    missing = chosen.missing or faults(chosen.compute)
    version, serves = version_of("onnxruntime"), chosen.compute.startswith("cuda") or not version_of("openvino")
    old = fault_of_onnxruntime(version) if serves and version else None
    return ProbedCompute(chosen.compute, chosen.reason, missing, old)


if __name__ == "__main__":
    die_with_parent(os.getppid())
    sys.stdout.buffer.write(msgspec.json.encode(probe(sys.argv[1])) + b"\n")
