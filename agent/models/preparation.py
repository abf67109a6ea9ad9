"""Prepare an artifact in a short-lived process of low priority: a runtime's compiler is kept out of this one."""

import os
import subprocess
from collections.abc import Callable
from typing import Final, Literal

import msgspec

from agent import isolated
from agent.messages.errors import EXIT_FAILED, EXIT_MISTAKE, EXIT_OK, Reason
from agent.messages.references import ModelVersion
from agent.models import child_environment

PREPARED_MAX_BYTES: Final = 2 << 30
_MODULE: Final = "agent.inference.preparing.build_process"


class Request(msgspec.Struct, frozen=True):
    """What to prepare; `compute` is the device setting, `max_bytes` what all artifacts may take on the disk.

    `images`: a folder of pictures that decide between precisions; without, the catalog's golden ones. `is_awaited`: a
    line waits for it, so it does not step behind all others.
    """

    model: ModelVersion
    compute: str
    cache_dir: str
    max_bytes: int = PREPARED_MAX_BYTES
    images: str | None = None
    is_awaited: bool = False


class Step(msgspec.Struct, frozen=True, tag=True):
    """What the process does now."""

    text: str


class Outcome(msgspec.Struct, frozen=True, tag=True):
    """How it went, with a word on it.

    `present`: it was there already. `unneeded`: this model is served from its file as it is. `failed`: see `reason`
    for a mistake in the model; without one it was the disk or the memory, and a retry may help. `profile`: how what was
    prepared is served, and what it takes (inference/artifacts/profile.py).
    """

    result: Literal["prepared", "present", "unneeded", "failed"]
    detail: str
    reason: Reason | None = None
    profile: dict[str, int | float | str] | None = None

    @property
    def exit_code(self) -> int:
        """What a command that did only this ends with."""
        if self.result != "failed":
            return EXIT_OK
        return EXIT_MISTAKE if self.reason else EXIT_FAILED

    def as_json(self, reference: str) -> str:
        """Write it as one line: `model`, `result`, `detail`, `reason`, `profile`."""
        line = {"model": reference, "result": self.result, "detail": self.detail, "reason": self.reason}
        return msgspec.json.encode(line | {"profile": self.profile}).decode()


class Preparation:
    """One process that prepares one artifact. `run` blocks, on any thread; `kill` may be called from another."""

    def __init__(self, request: Request, tell: Callable[[str], None]) -> None:
        """`tell` is called with each step, by the thread that runs."""
        self._request: Final = request
        self._tell: Final = tell
        self._process: subprocess.Popen[bytes] | None = None
        self._is_killed = False

    def run(self) -> Outcome:
        """Prepare, and return how it went."""
        command = isolated.command(_MODULE)
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=_environment(), cwd=isolated.FOLDER) as process:
            self._process = process
            if self._is_killed:
                process.kill()
            assert process.stdin is not None
            try:
                process.stdin.write(msgspec.json.encode(self._request) + b"\n")
                process.stdin.flush()  # and left open: its end tells the process that nobody waits any more
            except BrokenPipeError:
                pass  # it has ended already; what it said is below
            outcome = self._listen(process)
        return outcome or Outcome("failed", f"the process that prepares ended with {process.returncode}")

    def kill(self) -> None:
        """End it, whatever it does; nothing half made is found later."""
        self._is_killed = True
        if self._process is not None:
            self._process.kill()

    def _listen(self, process: "subprocess.Popen[bytes]") -> Outcome | None:
        assert process.stdout is not None
        for line in process.stdout:
            told = msgspec.json.decode(line, type=Step | Outcome)
            if isinstance(told, Outcome):
                return told
            self._tell(told.text)
        return None


def _environment() -> dict[str, str]:
    return {**os.environ, **child_environment.FOR_MODELS}
