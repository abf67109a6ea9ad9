"""The parts of `meta` and `cache` that describe a group."""

from typing import Literal

import msgspec

Wall = Literal["cgroup", "ledger"]


class MetaGroup(msgspec.Struct, frozen=True):
    """A group in `meta`: its lines, its guaranteed part of the budget, and what holds it to that.

    `wall` is `cgroup` where the kernel limits the group's memory and processor time, else `ledger`; `detail` says why.
    """

    lines: list[str]
    memory_bytes: int
    cpu_weight: int
    wall: Wall
    detail: str | None = None


class CacheGroup(msgspec.Struct, frozen=True):
    """The share of one group in `cache`.

    `limit_bytes` is what its worker may use now: more than `guaranteed_bytes` where it has borrowed from others, less
    where it has lent.
    """

    guaranteed_bytes: int
    limit_bytes: int
    used_bytes: int
    kept_bytes: int = 0
