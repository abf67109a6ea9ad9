"""Comparison of the broker's words about a line with the agent's last will. Times are time.monotonic."""

import threading
import time
from typing import Final

LIMIT_S: Final = 12.0
"""A `ready` 0 is accepted within 5 s or the link is given up; a broker notices a silent end after 1.5 keepalives."""
_NOTHING: Final = b"0"


class Truth:
    """`wants` comes from the proxy's thread, all else from the test's."""

    def __init__(self) -> None:
        self.lies = 0
        self.named = 0
        self._guard = threading.Lock()
        self._wanted = _NOTHING
        self._said: dict[str, bytes] = {}
        self._false_since_s: float | None = None

    def wants(self, value: bytes) -> None:
        """Note the value of `ready` that the agent tries to publish."""
        with self._guard:
            self._wanted = value

    def says(self, name: str, value: bytes) -> None:
        """Note `ready` or `status` as the broker gives it out."""
        self.named += name == "ready" and value != _NOTHING
        self._said[name] = value

    def forget(self) -> None:
        """Begin anew: nobody can ask the broker just now."""
        self._false_since_s = None

    def look(self) -> None:
        """Count a lie that lasts longer than anything may."""
        ready = self._said.get("ready", _NOTHING)
        with self._guard:
            is_false = self._said.get("status") == b"online" and ready not in {_NOTHING, self._wanted}
        if not is_false:
            self._false_since_s = None
            return
        now_s = time.monotonic()
        self._false_since_s = self._false_since_s or now_s
        if now_s - self._false_since_s > LIMIT_S:
            self.lies += 1
            self._false_since_s = None
