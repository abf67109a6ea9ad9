"""Log setup of every process: one `key=value` line per event on stderr, redacted and deduplicated."""

import logging
import os
import re
import sys
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final, TextIO

from agent.messages.texts.utc import utc_text
from agent.redact import redact

FOLD_S: Final = 60.0
_FOLDED_AT_MOST: Final = 256
_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG: Final = 7
_EVENT: Final = re.compile(r"event=\w")
_SECRET: Final = re.compile(r"\b(password|passwd|secret|token|api_?key)(['\"]?\s*[=:]\s*)\S+", re.IGNORECASE)
_FRACTION: Final = re.compile(r"\d+\.\d+")
_BREAKS: Final = {code: f"\\x{code:02x}" for code in [*range(32), 127]} | {10: "\\n", 13: "\\r", 9: " "}


def set_up(level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Log to `stream` (default stderr), also warnings and uncaught exceptions; call it once in each process."""
    stream = sys.stderr if stream is None else stream
    handler = Handler(stream)
    handler.setFormatter(Formatter(for_journal=is_journal(stream, os.environ)))
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.captureWarnings(capture=True)
    sys.excepthook = _crashed
    threading.excepthook = lambda args: _thread_crashed(args.exc_type, args.exc_value, args.exc_traceback, args.thread)


def set_level(level: str) -> None:
    """Set the level to `debug`, `info` or `warning`; libraries never log below `info`, because they write too much."""
    number = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}[level]
    logging.getLogger().setLevel(max(number, logging.INFO))
    logging.getLogger("agent").setLevel(number)


def is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return True where `stream` is connected to the journal: $JOURNAL_STREAM names its device and inode."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class Formatter(logging.Formatter):
    """Formatter of any record as `level=... logger=... event=... key=value`, on one line.

    A line for the journal begins with a priority (sd-daemon(3)), because the journal adds the time; any other begins
    with the time.
    """

    def __init__(self, *, for_journal: bool) -> None:
        super().__init__()
        self._for_journal: Final = for_journal

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        said = record.getMessage()
        if not _EVENT.match(said):
            said = f"event=message text={said!r}"
        if record.exc_info and record.exc_info[0] is not None:
            trace = "".join(traceback.format_exception(*record.exc_info)).strip()
            said += f" error={trace.splitlines()[-1]!r} trace={trace!r}"
        return f"{self._beginning(record)} level={record.levelname} logger={record.name} {_shown(said)}"

    def _beginning(self, record: logging.LogRecord) -> str:
        if self._for_journal:
            priority = next((number for level, number in _PRIORITIES if record.levelno >= level), _DEBUG)
            return f"<{priority}>process={record.process}"
        return f"at={utc_text(record.created)} process={record.process}"


if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[TextIO]
else:
    _StreamHandler = logging.StreamHandler  # generic only since Python 3.11


class Handler(_StreamHandler):
    """Handler that writes each warning or error once, then once a minute with the number of repeats.

    Lines that differ only in decimal fractions count as repeats, because those are durations here.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._clock: Final = clock
        self._seen: Final[OrderedDict[tuple[str, str], _Seen]] = OrderedDict()

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or count a repeat; called with the handler's lock held."""
        now_s = self._clock()
        self._forget_old(now_s)
        if record.levelno >= logging.WARNING and self._is_repeat(record, now_s):
            return
        super().emit(record)

    def _is_repeat(self, record: logging.LogRecord, now_s: float) -> bool:
        key = (record.name, _FRACTION.sub("#", record.getMessage()))
        seen = self._seen.get(key)
        if seen is not None:
            seen.repeats += 1
            seen.last = record
            return True
        self._seen[key] = _Seen(now_s)
        if len(self._seen) > _FOLDED_AT_MOST:
            self._write_count(self._seen.popitem(last=False)[1])
        return False

    def _forget_old(self, now_s: float) -> None:
        """Write counts of repeats older than a minute; their next record is written at once again."""
        while self._seen and now_s - next(iter(self._seen.values())).since_s >= FOLD_S:
            self._write_count(self._seen.popitem(last=False)[1])

    def _write_count(self, seen: "_Seen") -> None:
        if seen.last is not None:
            record = logging.makeLogRecord(seen.last.__dict__ | {"args": None, "exc_info": None})
            said = seen.last.getMessage()
            record.msg = f"{said if _EVENT.match(said) else f'event=message text={said!r}'} repeats={seen.repeats}"
            super().emit(record)


@dataclass
class _Seen:
    since_s: float
    repeats: int = 0
    last: logging.LogRecord | None = None


def _shown(text: str) -> str:
    return _SECRET.sub(r"\1\2***", redact(text)).translate(_BREAKS)


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("agent").critical("event=crashed", exc_info=(kind, error, trace))


def _thread_crashed(
    kind: type[BaseException],
    error: BaseException | None,
    trace: TracebackType | None,
    thread: threading.Thread | None,
) -> None:
    if error is not None and not issubclass(kind, SystemExit):
        name = thread.name if thread is not None else "?"
        logging.getLogger("agent").critical("event=thread_crashed thread=%r", name, exc_info=(kind, error, trace))
