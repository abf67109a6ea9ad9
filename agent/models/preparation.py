"""Prepare an artifact in a short-lived process of low priority: a runtime's compiler is kept out of this one."""

import os
import subprocess
import threading
from collections.abc import Callable
from typing import Final, Literal

import msgspec

from agent import isolated
from agent.messages.errors import EXIT_FAILED, EXIT_MISTAKE, EXIT_OK, Reason
from agent.messages.references import ModelVersion
from agent.models import child_environment

PREPARED_MAX_BYTES: Final = 2 << 30
STEP_S: Final = 900.0
"""Time for one step, such as compiling or comparing answers; a graph may loop for ever."""
_MODULE: Final = "agent.inference.preparing.build_process"


class Request(msgspec.Struct, frozen=True):
    """A model to prepare for this device."""

    model: ModelVersion
    compute: str
    """The device setting: auto, cpu, cuda:0, ..."""
    cache_dir: str
    max_bytes: int = PREPARED_MAX_BYTES
    """Disk space of all artifacts together."""
    images: str | None = None
    """Folder of pictures that decide between precisions; None: the catalog's golden ones."""
    is_awaited: bool = False
    """A line waits for it, so it does not step behind all others."""
    step_s: float = STEP_S
    """The process is killed where one step takes longer."""


class Step(msgspec.Struct, frozen=True, tag=True):
    """The step that the process begins now."""

    text: str


class Outcome(msgspec.Struct, frozen=True, tag=True):
    """Result of a preparation, with the reason of a failure."""

    result: Literal["prepared", "present", "unneeded", "failed"]
    """`present`: it was there already. `unneeded`: this model is served from its file as it is."""
    detail: str
    reason: Reason | None = None
    """The mistake in the model; None: the disk or the memory failed, and a retry may help."""
    profile: dict[str, int | float | str] | None = None
    """The artifact's profile (inference/artifacts/profile.py)."""

    @property
    def exit_code(self) -> int:
        """Exit code of a command that did only this."""
        if self.result != "failed":
            return EXIT_OK
        return EXIT_FAILED if self.reason in {None, "load_timeout"} else EXIT_MISTAKE

    def as_json(self, reference: str) -> str:
        """Encode it as one line: `model`, `result`, `detail`, `reason`, `profile`."""
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
        self._late = ""
        self._timer: threading.Timer | None = None

    def run(self) -> Outcome:
        """Prepare, and return the outcome; a process that is late with one step is killed."""
        command = isolated.command(_MODULE)
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=_environment(), cwd=isolated.FOLDER) as process:
            self._process = process
            if self._is_killed:
                process.kill()
            try:
                self._begin("starting")
                outcome = self._exchange(process)
            finally:
                self._stop_timer()
        if outcome is None and self._late:
            return Outcome("failed", self._late, "load_timeout")
        return outcome or Outcome("failed", f"the process that prepares ended with {process.returncode}")

    def kill(self) -> None:
        """End it, whatever it does; nothing half made is found later."""
        self._is_killed = True
        if self._process is not None:
            self._process.kill()

    def _exchange(self, process: "subprocess.Popen[bytes]") -> Outcome | None:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(msgspec.json.encode(self._request) + b"\n")
            process.stdin.flush()  # and left open: its end tells the process that nobody waits any more
        except BrokenPipeError:
            pass  # it has ended already; what it said is below
        for line in process.stdout:
            told = msgspec.json.decode(line, type=Step | Outcome)
            if isinstance(told, Outcome):
                return told
            self._begin(told.text)
            self._tell(told.text)
        return None

    def _begin(self, step: str) -> None:
        """Give the step its time, from now on."""
        self._stop_timer()
        self._timer = threading.Timer(self._request.step_s, self._end_late, (step,))
        self._timer.daemon = True
        self._timer.start()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _end_late(self, step: str) -> None:
        command = f"`changeover models prepare {self._request.model.reference}`"
        advice = f"export it again if its graph loops for ever, else {command} while the device is idle"
        self._late = f"ended after {self._request.step_s:g} s of one step ({step}): {advice}"
        self.kill()


def _environment() -> dict[str, str]:
    return {**os.environ, **child_environment.FOR_MODELS}
