"""One line for a reason, not one for each attempt."""

import logging
from typing import Final

_AGAIN_S: Final = 60.0


class FoldedLog:
    """Logs each distinct reason once, then at most once a minute with the number of repeats."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger: Final = logger
        self._reason: str | None = None
        self._said_s = 0.0
        self._folded = 0

    def warn(self, reason: str, now_s: float) -> None:
        """Log `reason`, unless it was the last one and a minute has not passed."""
        if reason == self._reason and now_s - self._said_s < _AGAIN_S:
            self._folded += 1
            return
        repeats = f" ({self._folded} more times)" if reason == self._reason and self._folded else ""
        self._logger.warning("%s%s", reason, repeats)
        self._reason, self._said_s, self._folded = reason, now_s, 0

    def over(self, text: str) -> None:
        """Log that it is good again; the next reason is a new one."""
        self._logger.info("%s", text)
        self._reason, self._folded = None, 0
