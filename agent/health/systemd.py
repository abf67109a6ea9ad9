"""Notifications to systemd (sd_notify(3)): ready, reloading, stopping, status and watchdog."""

import logging
import os
import socket
import time
from collections import deque
from collections.abc import MutableMapping
from typing import Final

_log: Final = logging.getLogger(__name__)
_STATUS_LENGTH: Final = 200
_OWED_AT_MOST: Final = 16
"""Limit of queued notifications while systemd does not read; the oldest are dropped."""


class Notifier:
    """Sender of notifications to $NOTIFY_SOCKET; without that variable it sends nothing. For one thread.

    The variables are removed from the environment, because no child may notify for the service.
    """

    def __init__(self, environ: MutableMapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._address: Final = _address(environ.pop("NOTIFY_SOCKET", ""))
        self.watchdog_s: Final = _watchdog_s(environ)
        """Watchdog timeout that systemd has set; None without a watchdog."""
        self._socket: Final = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._status = ""
        self._owed: Final[deque[str]] = deque(maxlen=_OWED_AT_MOST)

    def ready(self) -> None:
        """Report that the service is up, or that a reload is over."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Report that a reload has begun; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Report that the service stops."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows, unless it is unchanged."""
        text = " ".join(text.split())[:_STATUS_LENGTH]
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")
        else:
            self._flush()

    def alive(self) -> None:
        """Send one watchdog notification."""
        if not self._owed:
            self._send("WATCHDOG=1")

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _send(self, text: str) -> None:
        if self._address:
            self._owed.append(text)
            self._flush()

    def _flush(self) -> None:
        """Send queued notifications in order, without waiting for a manager that does not read."""
        try:
            while self._owed:
                self._socket.sendto(self._owed[0].encode(), socket.MSG_DONTWAIT, self._address)
                self._owed.popleft()
        except BlockingIOError:
            _log.info("event=notify_waits owed=%d", len(self._owed))
        except OSError as error:
            _log.warning("event=notify_failed detail=%r", str(error))
            self._owed.clear()


class Watchdog:
    """Sender of three notifications in each watchdog period, and of none while a loop is late."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier: Final = notifier
        self._interval_s: Final = notifier.watchdog_s / 3 if notifier.watchdog_s else None
        self._due_s = 0.0
        self._late: list[str] = []

    def tick(self, now_s: float, late: list[str]) -> None:
        """Send a notification if one is due; `late` names the loops that did not report in time."""
        if late != self._late:
            self._late = late
            if late:
                _log.error("event=watchdog_withheld loops=%s", ",".join(late))
        if self._interval_s is not None and not late and now_s >= self._due_s:
            self._due_s = now_s + self._interval_s
            self._notifier.alive()


def _address(path: str) -> str:
    """Return the socket's address; a leading @ means an abstract socket."""
    return f"\0{path[1:]}" if path.startswith("@") else path


def _watchdog_s(environ: MutableMapping[str, str]) -> float | None:
    """Return the seconds of WATCHDOG_USEC (sd_watchdog_enabled(3)), and remove the variables.

    None without a watchdog, or where WATCHDOG_PID names another process.
    """
    text, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    if not text.isdecimal() or int(text) == 0 or (pid.isdecimal() and int(pid) != os.getpid()):
        return None
    return int(text) / 1e6
