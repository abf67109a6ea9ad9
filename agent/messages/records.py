"""Records that the device keeps of the models that served its lines, and of their comparisons."""

from typing import Final, Literal

import msgspec

from agent.messages.canary import Canary, Counts
from agent.messages.payloads import Cause, Time

SERVED: Final = "served"
"""Folder of the state folder with a file of records for each line."""
MOST_RECORDS: Final = 500
"""Records of a line; the oldest go."""


class Served(msgspec.Struct, frozen=True, omit_defaults=True):
    """One record of a line: a model began to serve, a change failed, or a comparison ended.

    `model` is null where none serves, as while the agent or the worker is down.
    """

    at: Time
    what: Literal["serves", "change", "comparison"]
    model: str | None
    product: str | None = None
    cause: Cause | None = None
    before: str | None = None
    result: str | None = None
    reason: str | None = None
    detail: str | None = None
    boot: str | None = None


class ComparisonRecord(msgspec.Struct, frozen=True):
    """The running or last comparison of a line, with all that was counted."""

    canary: Canary
    counts: Counts
