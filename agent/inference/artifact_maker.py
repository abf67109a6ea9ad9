"""Have artifacts prepared in the background for models that had to be loaded from their source."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final

from agent.inference.artifacts import Artifacts
from agent.inference.backends import artifact_key, is_checkpoint
from agent.messages.references import ModelVersion
from agent.models.prepare import Preparation, Request
from agent.processes.threads import RestartedThread

_LOG: Final = logging.getLogger(__name__)
_LIMIT: Final = 16  # one that is left out is asked for again at its next load
_QUIET_S: Final = 5.0
_BYTES_A_FILE_BYTE: Final = 8  # what a compiler takes at its worst
_EXPORT_BYTES: Final = 1 << 30  # torch, and what it takes to trace a network


class ArtifactMaker:
    """A thread that runs one preparation at a time, some seconds after the last load. Owner: the worker.

    A failure is logged once a model and costs nothing but speed: the model serves from its source. `left_out` counts
    requests beyond the bound. Each preparation runs `during`: it takes what the cores have to spare.
    """

    def __init__(
        self,
        compute: str,
        cache_dir: Path,
        max_bytes: int,
        quiet_s: float = _QUIET_S,
        during: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._compute: Final = compute
        self._artifacts: Final = Artifacts(cache_dir)
        self._cache_dir: Final = cache_dir
        self._max_bytes: Final = max_bytes
        self._quiet_s: Final = quiet_s
        self._during: Final = during
        self.left_out = 0
        self._wanted: Final[deque[ModelVersion]] = deque()
        self._seen: Final[set[str]] = set()
        self._turn: Final = threading.Condition()
        self._asked_again = False
        self._stopping = False
        self._running: Preparation | None = None
        self._thread: Final = RestartedThread(self._run, "artifact-maker")

    def start(self) -> None:
        """Begin to serve requests."""
        self._thread.start()

    def stop(self) -> None:
        """End, and with it the preparation in hand."""
        with self._turn:
            self._stopping = True
            self._turn.notify_all()
            if self._running is not None:
                self._running.kill()
        self._thread.join()

    def ask(self, version: ModelVersion) -> None:
        """Have `version` prepared if it can be and is not; returns at once. From any thread."""
        key = artifact_key(version, self._compute)
        if key is None or self._artifacts.find(key):
            return
        with self._turn:
            self._asked_again = True
            if key in self._seen:
                return
            if len(self._wanted) >= _LIMIT:
                self.left_out += 1
                return
            self._seen.add(key)
            self._wanted.append(version)
            self._turn.notify_all()

    def _run(self) -> None:
        while (preparation := self._next()) is not None:
            version, running = preparation
            try:
                with self._during():
                    outcome = running.run()
            except Exception:  # noqa: BLE001 - the thread must outlive whatever one preparation does
                _LOG.exception("preparing %s", version.reference)
                continue
            level = logging.WARNING if outcome.result == "failed" and not self._stopping else logging.INFO
            _LOG.log(level, "prepare model=%s result=%s %s", version.reference, outcome.result, outcome.detail)

    def _next(self) -> tuple[ModelVersion, Preparation] | None:
        with self._turn:
            while (version := self._next_wanted()) is not None:
                if _has_memory(version):
                    request = Request(version, self._compute, str(self._cache_dir.absolute()), self._max_bytes)
                    self._running = Preparation(request, _LOG.debug)
                    return version, self._running
            return None

    def _next_wanted(self) -> ModelVersion | None:
        """Wait for a request, and for quiet; None at the end. Needs `turn` held."""
        self._turn.wait_for(lambda: self._stopping or self._wanted)
        self._wait_for_quiet()
        return None if self._stopping else self._wanted.popleft()

    def _wait_for_quiet(self) -> None:
        """Let the models come that come together. Needs `turn` held."""
        self._asked_again = True
        while self._asked_again and not self._stopping:
            self._asked_again = False
            self._turn.wait_for(lambda: self._stopping, self._quiet_s)


def _has_memory(version: ModelVersion) -> bool:
    """Say whether the device can spare what a compiler takes; said where not, as it is not tried again."""
    try:
        needed_bytes = Path(version.path).stat().st_size * _BYTES_A_FILE_BYTE
        needed_bytes += _EXPORT_BYTES if is_checkpoint(version) else 0
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free_bytes = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return False
    if needed_bytes > free_bytes:
        _LOG.warning("prepare model=%s result=failed it may take %d MiB", version.reference, needed_bytes >> 20)
    return needed_bytes <= free_bytes
