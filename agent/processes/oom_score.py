"""Out-of-memory kill order: the worker first, then cameras, control last."""

import logging
from pathlib import Path
from typing import Final

WORKER: Final = 500
CAMERA: Final = 250
_SCORE: Final = Path("/proc/self/oom_score_adj")
_log: Final = logging.getLogger(__name__)


def raise_to(score: int) -> None:
    """Raise this process' `oom_score_adj` to `score`, which needs no privilege; a higher one is kept."""
    try:
        if int(_SCORE.read_text(encoding="ascii")) < score:
            _SCORE.write_text(str(score), encoding="ascii")
    except (OSError, ValueError) as error:
        _log.warning("event=oom_score_unset detail=%r", str(error))
