"""Compiles a model in a short-lived process of low priority, because a runtime's compiler may crash or hang."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

import msgspec

from agent import isolated
from agent.messages.errors import EXIT_FAILED, EXIT_MISTAKE, EXIT_OK, Reason
from agent.messages.references import ModelVersion
from agent.models import child_environment

PREPARED_MAX_BYTES: Final = 2 << 30
STEP_S: Final = 900.0
"""Timeout of one step, such as compiling or comparing answers, because a graph may loop for ever."""
_MODULE: Final = "agent.inference.preparing.build_process"
_CRASHES: Final = {-one for one in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)}
"""Return codes of a process that its own fault has killed."""


class Request(msgspec.Struct, frozen=True):
    """A request to compile a model for this device."""

    model: ModelVersion
    compute: str
    """The setting `device.compute`: auto, cpu, cuda:0, ..."""
    cache_dir: str
    max_bytes: int = PREPARED_MAX_BYTES
    """Bound on the disk space of all artifacts together."""
    images: str | None = None
    """Folder of pictures that decide between precisions; None: the catalog's golden ones."""
    precision: str = ""
    """The artifact's precision, for benchmarks; empty: the fastest one that answers as the file does."""
    is_awaited: bool = False
    """A load waits for the compiled model, so the process does not keep the lowest priority."""
    idle_s: float = 0.0
    """Time for which the process of an awaited model gets idle CPU time only, because no line needs it yet."""
    nice: int | None = None
    """Nice value from which the process steps back; None: the one that it begins with."""
    step_s: float = STEP_S
    """Timeout of one step, after which the process is killed."""


class Step(msgspec.Struct, frozen=True, tag=True):
    """Progress message: the process begins a step."""

    text: str


class Outcome(msgspec.Struct, frozen=True, tag=True):
    """Result of a preparation, with the reason of a failure."""

    result: Literal["prepared", "present", "unneeded", "failed"]
    """`present`: the artifact existed already. `unneeded`: the model serves directly from its file."""
    detail: str
    reason: Reason | None = None
    """Reason of a failure that lies in the model; None: disk or memory failed, and a retry may help."""
    profile: dict[str, int | float | str] | None = None
    """The artifact's profile (inference/artifacts/profile.py)."""
    is_of_disk: bool = False
    """The cache folder cannot keep the artifact: its disk is full, or the folder is another user's."""

    @property
    def exit_code(self) -> int:
        """Exit code of a command that runs this preparation alone."""
        if self.result != "failed":
            return EXIT_OK
        return EXIT_FAILED if self.reason in {None, "load_timeout"} else EXIT_MISTAKE

    def as_json(self, reference: str) -> str:
        """Encode the outcome as one line of JSON: `model`, `result`, `detail`, `reason`, `profile`."""
        line = {"model": reference, "result": self.result, "detail": self.detail, "reason": self.reason}
        return msgspec.json.encode(line | {"profile": self.profile}).decode()


class Preparation:
    """One process that compiles one model. Threading: `run` blocks; other threads may call `kill` and `hasten`."""

    def __init__(self, request: Request, tell: Callable[[str], None]) -> None:
        """Store the request; the thread of `run` calls `tell` with each step."""
        self._request: Final = request
        self._tell: Final = tell
        self._process: subprocess.Popen[bytes] | None = None
        self._is_killed = False
        self._is_hastened = False
        self._late = ""
        self._timer: threading.Timer | None = None

    def run(self) -> Outcome:
        """Run the process and return its outcome; a step that times out kills the process."""
        command = isolated.command(_MODULE)
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=_environment(), cwd=isolated.FOLDER) as process:
            self._process = process
            if self._is_killed:
                process.kill()
            patience = threading.Timer(self._request.idle_s, self.hasten)
            patience.daemon = True
            if self._request.idle_s:
                patience.start()
            try:
                self._begin("starting")
                outcome = self._exchange(process)
            finally:
                patience.cancel()
                self._stop_timer()
        if outcome is None and self._late:
            return Outcome("failed", self._late, "load_timeout")
        reason: Reason | None = "load_failed" if process.returncode in _CRASHES else None
        return outcome or Outcome("failed", f"the process that prepares ended with {process.returncode}", reason)

    def kill(self) -> None:
        """Kill the process, or the one that a later `run` starts; an unfinished artifact is never used."""
        self._is_killed = True
        if self._process is not None:
            self._process.kill()

    def hasten(self) -> None:
        """Let the process and its children compete for CPU time, at the nice value that they have."""
        self._is_hastened = True
        process = self._process
        if process is None or process.poll() is not None:
            return
        for thread in _threads(process.pid):
            with suppress(OSError):  # it may have ended, or the right to raise it is missing
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))

    def _exchange(self, process: "subprocess.Popen[bytes]") -> Outcome | None:
        assert process.stdout is not None
        # The pipe stays open, because its end tells the process that nobody waits any more.
        isolated.hand_over(process, msgspec.json.encode(self._request) + b"\n")
        for line in process.stdout:
            told = msgspec.json.decode(line, type=Step | Outcome)
            if isinstance(told, Outcome):
                return told
            self._begin(told.text)
            self._tell(told.text)
        return None

    def _begin(self, step: str) -> None:
        """Start the timeout of a step."""
        if self._is_hastened:
            self.hasten()  # again, because a process lowers itself after its start
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


def _threads(process: int) -> Iterator[int]:
    """Yield the ids of all threads of a process and of its children."""
    with suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            yield int(task.name)
            for child in (task / "children").read_text(encoding="ascii").split():
                yield from _threads(int(child))


def _environment() -> dict[str, str]:
    return {**os.environ, **child_environment.FOR_MODELS}
