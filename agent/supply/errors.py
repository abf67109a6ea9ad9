"""Failure of a source that a retry may cure."""

from typing import Final

from agent.messages.errors import Reason, TransientError


class SourceError(TransientError):
    """A source hung, cut a transfer off or is out of order; what a retry cannot cure is a ModelError."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Final = reason
