"""Time limits and sizes of transfers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """Timeouts and number of retries of a transfer; tests pass shorter ones."""

    stall_s: float = 20.0
    """Time without a byte after which a source counts as hung."""
    slow_s: float = 30.0
    """Period of waiting over which a source must send `slowest_bytes_s` on average."""
    slowest_bytes_s: float = 1024.0
    fruitless: int = 6
    """Attempts in a row without a new byte after which a transfer fails."""
    restarts: int = 3
    """Times that one transfer may begin again at byte 0."""
    backoff_s: float = 10.0
    """Longest delay between two attempts."""
    sync_bytes: int = 8 << 20
    """Bytes after which written data is flushed, so that no large flush delays other writers."""
