"""Log de-duplication: one line for a reason, not one for each attempt."""

import logging
from typing import Final

_AGAIN_S: Final = 60.0
_REASONS: Final = 16


class LogDedup:
    """Logger of each distinct reason once, then at most once a minute with the number of repeats."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger: Final = logger
        self._said: Final[dict[str, tuple[float, int]]] = {}

    def warn(self, reason: str, now_s: float) -> None:
        """Log `reason`, unless it was logged within a minute."""
        said_s, folded = self._said.get(reason, (now_s - _AGAIN_S, 0))
        if now_s - said_s < _AGAIN_S:
            self._said[reason] = (said_s, folded + 1)
            return
        self._logger.warning("%s%s", reason, f" ({folded} more times)" if folded else "")
        self._said.pop(reason, None)
        self._said[reason] = (now_s, 0)
        if len(self._said) > _REASONS:
            del self._said[next(iter(self._said))]

    def over(self, text: str) -> None:
        """Log the recovery; the next reason is logged at once."""
        self._logger.info("%s", text)
        self._said.clear()
