"""Sandbox check: tries to break out of the sandbox in which untrusted `.pt` files are opened."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec

from agent.doctor.finding import Finding, fail, note, ok
from agent.doctor.subprocess_runner import run_apart
from agent.messages.short_lived.probe_results import ProbedSandbox
from agent.processes.package_version import version_of

_MODULE: Final = "agent.inference.sandbox.probe_process"
_SUBJECT: Final = "checkpoints"
_DEADLINE_S: Final = 30.0


def try_checkpoints() -> Iterator[Finding]:
    """Start a sandboxed subprocess that tries what the sandbox must refuse."""
    with TemporaryDirectory(prefix="changeover-doctor-") as above:
        folder = Path(above) / "folder"
        folder.mkdir()
        tried = msgspec.json.decode(run_apart(_MODULE, [str(folder)], b"", _DEADLINE_S), type=ProbedSandbox)
    if tried.error is not None:
        yield note(_SUBJECT, f"{tried.error}: a .pt is not prepared here; prepare it elsewhere as .onnx")
    elif tried.could:
        yield fail(_SUBJECT, f"a process shut in could {' and '.join(tried.could)}: add no .pt that you did not make")
    else:
        extra = "" if version_of("ultralytics") else ", once the extra `ultralytics` is installed"
        yield ok(_SUBJECT, f"a .pt is opened behind {', '.join(tried.walls)}{extra}")
