"""Synchronisation state of the wall clock."""

import contextlib
import ctypes
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Final

_TIME_ERROR: Final = 5
"""Result of adjtimex(2) for a clock that is not synchronised to a reliable server."""
_TIMEX_BYTES: Final = 512
"""Buffer larger than `struct timex` on any Linux; filled with zeros, it queries without setting."""

_COMMAND: Final = ("timedatectl", "show", "--property=NTPSynchronized", "--value")
_INTERVAL_S: Final = 10.0
_STEADY_INTERVAL_S: Final = 600.0
"""Interval of queries once the clock is synchronised; long, because each starts a process and a service."""
_FIRST_S: Final = 2.0


def is_synchronised(timedated: "TimedatedClient | None" = None) -> bool:
    """Return True where the kernel reports a synchronised clock; any NTP client reports to it.

    `timedated` is asked where a sandbox forbids to query the kernel; None: the module's own client.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    state = int(libc.adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)))
    if state < 0:  # because the service's sandbox forbids even a query
        return (timedated or _timedated).answer()
    return state < _TIME_ERROR


class TimedatedClient:
    """Client of systemd-timedated, which may query the kernel. For one thread.

    Only the first query waits for its answer, for at most `first_s`.
    """

    def __init__(
        self,
        command: Sequence[str] = _COMMAND,
        first_s: float = _FIRST_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._command: Final = command
        self._first_s: Final = first_s
        self._clock: Final = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._due_s = 0.0
        self._answer = False

    def answer(self) -> bool:
        """Return the newest answer, False before the first; start the next query if it is due."""
        now_s = self._clock()
        is_first = not self._due_s
        if self._process is None and now_s >= self._due_s:
            self._due_s = now_s + _INTERVAL_S
            self._ask()
        self._take(self._first_s if is_first else 0.0)
        return self._answer

    def _ask(self) -> None:
        with contextlib.suppress(OSError):  # because a system without timedatectl has no other source
            self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def _take(self, patience_s: float) -> None:
        if self._process is None:
            return
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            if self._clock() > self._due_s:
                self._process.kill()
            return
        assert self._process.stdout is not None
        with self._process.stdout as end:
            self._answer = end.read().strip() == b"yes"
        self._process = None
        if self._answer:
            self._due_s = self._clock() + _STEADY_INTERVAL_S


_timedated: Final = TimedatedClient()
