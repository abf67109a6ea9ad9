"""The one error tree: whether a retry helps is in the type.

A message says what was found and what to do about it. `reason` is the contract's word for it, as acks and switch
reports carry it; the message becomes their `detail`.
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
]

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_MISTAKE: Final = 2
EXIT_NOT_STARTED: Final = 3


class ChangeoverError(Exception):
    """The root; never raised itself."""


class TransientError(ChangeoverError):
    """The world is at fault just now: the same call may succeed later."""


class NotStartedError(TransientError):
    """What the service cannot be without could not be had at its start: memory, descriptors, a port of its own."""


class MistakeError(ChangeoverError):
    """A setting, a file or a payload is wrong: a retry cannot help before somebody changes it."""


class ModelError(MistakeError):
    """A model cannot be served; the one before it stays active."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Final = reason


class OutOfMemoryError(TransientError):
    """A runtime or the device had no memory, in whatever dress the runtime said so."""

    reason: Final[Reason] = "no_memory"
