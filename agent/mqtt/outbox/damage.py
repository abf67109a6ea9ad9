"""Damage checks for an outbox file: SQLite's own errors, and values that cannot be valid."""

import math
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from agent.mqtt.outbox.outbox_item import Kind

CLOCK: Final = ("elapsed_s", "kernel_boot", "boottime_s")
TOTAL: Final = ("kind", "count", "bytes")
MESSAGE: Final = ("number", "kept_s", "size", "topic", "payload", "correlation")
_LONGEST_TOPIC_BYTES: Final = 65535
_LARGEST_NUMBER: Final = 2**60
_LARGEST_TIME_S: Final = 1e12
_WORDS: Final = ("no such table", "no such column", "has no column", "values were supplied", "Could not decode")
"""Words by which an sqlite3.OperationalError means damage instead of a temporary failure."""


class DamagedError(sqlite3.DatabaseError):
    """Damage of an outbox file: it holds values that this agent never writes."""


def is_damage(error: Exception) -> bool:
    """Return True where an error means a damaged file, not a temporary failure of the disk."""
    if isinstance(error, sqlite3.OperationalError):
        return any(word in str(error) for word in _WORDS)
    return isinstance(error, sqlite3.DatabaseError)


@contextmanager
def sound() -> Iterator[None]:
    """Run the block, and convert its errors from wrong types and missing rows to DamagedError."""
    try:
        yield
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        raise DamagedError(f"a value is not what it should be: {error}") from error


def check_tables(db: sqlite3.Connection) -> None:
    """Raise DamagedError where a table is missing or has other columns."""
    expected = {"clock": CLOCK, "total": TOTAL} | {kind.name.lower(): MESSAGE for kind in Kind}
    for table, columns in expected.items():
        found = tuple(row[1] for row in db.execute(f"PRAGMA table_info({table})"))
        if found != columns:
            raise DamagedError(f"the table {table} has the columns {', '.join(map(str, found)) or '(none)'}")


def is_time(value: object) -> bool:
    """Return True for a valid time in seconds."""
    return isinstance(value, (int, float)) and math.isfinite(value) and abs(value) < _LARGEST_TIME_S


def is_number(value: object) -> bool:
    """Return True for a valid message number."""
    return isinstance(value, int) and abs(value) < _LARGEST_NUMBER


def is_topic(value: object) -> bool:
    """Return True for a valid topic to publish to."""
    if not isinstance(value, str) or not value or any(sign in value for sign in "+#\0"):
        return False
    try:
        return len(value.encode()) <= _LONGEST_TOPIC_BYTES
    except UnicodeEncodeError:
        return False
