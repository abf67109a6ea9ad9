"""Exceptions of the agent; the type of each says whether a retry helps.

A message states what was found and what to do. Acks and switch reports publish `reason`, one of the codes in `Reason`,
and the message as their `detail`.
"""

from typing import Final, Literal

Reason = Literal[
    "unknown_line",
    "unknown_product",
    "unknown_model",
    "not_understood",
    "too_large",
    "retained",
    "expired",
    "overridden",
    "superseded",
    "file_missing",
    "hash_mismatch",
    "unclear_layout",
    "implausible",
    "unsigned",
    "load_failed",
    "load_timeout",
    "proof_failed",
    "no_memory",
    "worker_lost",
    "timeout",
    "nothing_to_roll_back",
    "source_refused",
    "source_hung",
    "not_found",
    "cut_off",
    "no_space",
    "revoked",
    "stale",
]

WHO_MAY: Final = "a user who may open it (with sudo, if it is the service's)"

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_MISTAKE: Final = 2
EXIT_NOT_STARTED: Final = 3


class ChangeoverError(Exception):
    """Base of all errors; never raised itself."""


class TransientError(ChangeoverError):
    """A temporary failure: the same call may succeed later."""


class NotStartedError(TransientError):
    """A required resource was unavailable at the start: memory, descriptors, a port."""


class MistakeError(ChangeoverError):
    """A wrong setting, file or payload: a retry cannot help before somebody changes it."""


class ModelError(MistakeError):
    """A model cannot be served; the previous one stays active."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Final = reason


def denied(file: object) -> str:
    """Return the error text for a file that this user has no permission to open."""
    return f"{file}: found no permission, expected {WHO_MAY}"


class OutOfMemoryError(TransientError):
    """A runtime or the device had no memory, however the runtime reported it."""

    reason: Final[Reason] = "no_memory"


class OutOfDeviceMemoryError(OutOfMemoryError):
    """An allocation of GPU memory was refused, because it would have exceeded the budget; the GPU was not asked."""

    def __init__(self, detail: str, short_bytes: int = 0) -> None:
        """Store the message; `short_bytes` is how far the allocation exceeded the budget."""
        super().__init__(detail)
        self.short_bytes: Final = short_bytes


class DeviceMissingError(MistakeError):
    """The GPU that the settings name, its driver or its runtime is missing; the message says which."""
