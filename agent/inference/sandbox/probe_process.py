"""Test process of the sandbox for `doctor`, with the argument FOLDER.

Enters the sandbox, attempts forbidden actions, and prints one line of JSON: the walls in force, or the error.
"""

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from agent.inference import sandbox
from agent.inference.sandbox import Limits
from agent.messages.errors import ChangeoverError
from agent.messages.short_lived.probe_results import ProbedSandbox

_LIMITS: Final = Limits(memory_bytes=64 << 20, cpu_s=10, wall_s=10.0, disk_bytes=1 << 20)


def main(folder: Path) -> ProbedSandbox:
    """Enter the sandbox in `folder`; return its walls, and the forbidden actions that succeeded."""
    walls = sandbox.enter(folder, _LIMITS)
    (folder / "inside").write_bytes(b"")
    beside = folder.with_name(f"{folder.name}-beside")
    forbidden: dict[str, Callable[[], object]] = {
        "open a socket": lambda: socket.socket().close(),
        "write beside its folder": beside.touch,
        "read beside its folder": lambda: list(folder.parent.iterdir()),
        "start a process": _fork,
    }
    could = tuple(action for action, do in forbidden.items() if not _is_refused(do))
    return ProbedSandbox(walls=walls, could=could)


def _fork() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _is_refused(do: Callable[[], object]) -> bool:
    try:
        do()
    except OSError:
        return True
    return False


def run() -> None:
    """Test the sandbox in the folder of the first argument, and print the result or the error."""
    try:
        probed = main(Path(sys.argv[1]))
    except (ChangeoverError, OSError) as error:
        probed = ProbedSandbox(error=str(error))
    sys.stdout.buffer.write(msgspec.json.encode(probed) + b"\n")


if __name__ == "__main__":
    run()
