"""Lends the memory budget among groups: the bytes that each may use now, and the groups that must give some back."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from agent.messages.children import MemoryLimit
from agent.messages.groups.memory_share import Share, ShareAsked, ShareHeld, ShareRecalled

_AGAIN_S: Final = 0.5
"""Pause before borrowed memory is asked for again, because it may have been in use for a moment."""
_PATIENCE_S: Final = 20.0
"""A request that still waits is answered with what there is; the worker has given it up before."""
_NOTHING: Final = MemoryLimit(0, 0)

Send = Callable[[str, Share | ShareRecalled], bool]


@dataclass
class _Request:
    """A worker's request that is not answered yet."""

    asked: ShareAsked
    until_s: float
    recalls: int = 0
    """Rounds in which others were asked to give back."""
    again_s: float = 0.0


@dataclass
class _Ending:
    """Memory of a group's killed workers that the kernel may not have back yet."""

    limit: MemoryLimit
    kept: MemoryLimit | None
    """Part of it for the next worker once it is back; None where that was settled, because they do not end."""


class ShareLedger:
    """Limits of the groups, together never more than the whole budget. For the loop's thread.

    A group asks before a load. It gets what nobody has, then what others have and do not use, and of the part that is
    guaranteed to it also what others have borrowed and can evict. A limit counts until its worker has confirmed a
    lower one, or is gone: a killed one has its memory until the kernel has ended it.
    """

    def __init__(
        self,
        whole: MemoryLimit,
        guaranteed: Mapping[str, MemoryLimit],
        send: Send,
        clock: Callable[[], float] = time.monotonic,
        *,
        end: Callable[[str, str], None] = lambda _group, _detail: None,
    ) -> None:
        """Store the arguments; `send(group, message)` returns False where the group's worker is down.

        `end(group, detail)` ends a worker that has leaked what is guaranteed to another group.
        """
        self._whole: Final = whole
        self.guaranteed: Final = guaranteed
        self._send: Final = send
        self._clock: Final = clock
        self._end: Final = end
        self._leaked: Final[dict[str, int]] = {}
        """Bytes that did not come back from unloaded models, or from loads that hang, by group."""
        self._limits: Final = dict(guaranteed)
        self._ending: Final[dict[str, _Ending]] = {}
        self._requests: Final[dict[str, _Request]] = {}
        self._recalls: Final[dict[str, ShareRecalled]] = {}
        """Recall that each group has not answered yet."""
        self._numbers = 0
        self._is_settling = False
        self._is_due = False

    @property
    def limits(self) -> Mapping[str, MemoryLimit]:
        """Limit of each group, of which it may use less at this moment."""
        return self._limits

    @property
    def taken(self) -> Mapping[str, MemoryLimit]:
        """Limit of each group, with what its killed workers may still hold."""
        return {
            group: _plus(limit, self._ending[group].limit) if group in self._ending else limit
            for group, limit in self._limits.items()
        }

    def asked(self, group: str, asked: ShareAsked) -> None:
        """Take a request of a group's worker, which replaces an earlier one."""
        self._requests[group] = _Request(asked, self._clock() + _PATIENCE_S)
        self._settle()

    def held(self, group: str, held: ShareHeld) -> None:
        """Take a worker's answer to a recall."""
        recalled = self._recalls.get(group)
        if recalled is None or recalled.number != held.number:
            return
        del self._recalls[group]
        self._limits[group] = _smaller(self._limits[group], _larger(held.limit, _NOTHING))
        self._settle()

    def leaked(self, group: str, size_bytes: int) -> None:
        """Record the bytes that unloaded models of a group, and loads that hang, have not given back."""
        self._leaked[group] = size_bytes

    def lost(self, group: str, *, is_gone: bool = True) -> None:
        """Record that a group's worker is lost; not `is_gone`: the kernel may not have its memory back yet."""
        self._leaked.pop(group, None)
        self._requests.pop(group, None)
        recalled = self._recalls.pop(group, None)
        limit = self._limits[group]
        kept = _smaller(limit, self.guaranteed[group])
        if recalled is not None:
            kept = _smaller(kept, recalled.limit)
        before = self._ending.pop(group, None)
        if before is not None and before.kept is not None:
            kept = _larger(kept, before.kept)
        self._limits[group] = kept
        if not is_gone:
            self._ending[group] = _Ending(limit if before is None else _plus(limit, before.limit), kept)
            self._limits[group] = _NOTHING
        self._settle()

    def gone(self, group: str) -> None:
        """Record that all killed workers of a group are gone, and with them what they had."""
        ending = self._ending.pop(group, None)
        if ending is None:
            return
        if ending.kept is not None:
            self._limits[group] = _larger(self._limits[group], ending.kept)
        self._settle()

    def outlasts(self, group: str, held_bytes: int) -> None:
        """Record that a killed worker takes too long to end; `held_bytes` are seen in it.

        Nobody waits for it any longer, the next worker neither. What it holds is taken from the part of its own group
        first. Bytes of a GPU cannot be seen, and count as back, because a driver refuses what it does not have.
        """
        ending = self._ending.get(group)
        if ending is None:
            return
        held = _smaller(ending.limit, MemoryLimit(held_bytes, 0))
        if ending.kept is None and held == ending.limit:
            return
        kept, self._ending[group] = ending.kept, _Ending(held, None)
        if kept is not None:
            # No more than came back, because others may have been lent the rest of the part.
            back = _smaller(_minus(ending.limit, held), self._own(group))
            self._limits[group] = _larger(self._limits[group], _smaller(kept, back))
        self._settle()

    def tick(self) -> bool:
        """Ask again for memory that was in use, and answer requests whose time is over; False with nothing to do."""
        if not self._requests:
            return False
        self._settle()
        return True

    def _settle(self) -> None:
        """Answer what can be answered; what happens meanwhile, such as the loss of a worker, comes after."""
        self._is_due = True
        if self._is_settling:
            return
        self._is_settling = True
        try:
            while self._is_due:
                self._is_due = False
                for group, request in list(self._requests.items()):
                    self._settle_one(group, request)
        finally:
            self._is_settling = False

    def _settle_one(self, group: str, request: _Request) -> None:
        is_answerable = group not in self._recalls and self._is_answerable(group, request)
        if is_answerable and self._requests.get(group) is request:
            del self._requests[group]
            given = _smaller(self._missing(group, request), self._free())
            self._limits[group] = _plus(self._limits[group], given)
            self._send(group, Share(request.asked.number, self._limits[group]))

    def _is_answerable(self, group: str, request: _Request) -> bool:
        """Return True where there is what the group asks for, or no more of it to come; recall from others else."""
        now_s = self._clock()
        if _is_within(self._missing(group, request), self._free()) or now_s >= request.until_s:
            return True
        is_coming = any(one.kept is not None for one in self._ending.values())
        if self._recalls or is_coming or now_s < request.again_s:
            return False
        is_guaranteed = _is_within(request.asked.limit, self._own(group)) and request.asked.is_requested
        if request.recalls and not is_guaranteed:
            return True
        if request.recalls > 1 and self._is_in_vain():
            return True
        if request.recalls > 1 and self._ends_a_leak(group, request):
            return False
        request.recalls += 1
        request.again_s = now_s + _AGAIN_S if request.recalls > 1 else now_s
        self._recall(group, request, evict=request.recalls > 1)
        return not self._recalls and request.recalls == 1 and not is_guaranteed

    def _recall(self, group: str, request: _Request, *, evict: bool) -> None:
        """Ask all others to give back what `group` misses: unused memory, or with `evict` what they have borrowed."""
        lacking = _minus(self._missing(group, request), self._free())
        for other, limit in list(self._limits.items()):
            target = _minus(limit, lacking)
            if evict:
                target = _larger(target, _smaller(self._own(other), limit))
            if other == group or target == limit:
                continue
            self._numbers += 1
            recalled = ShareRecalled(self._numbers, target, evict)
            if self._send(other, recalled):
                self._recalls[other] = recalled
            else:
                self._limits[other] = _smaller(
                    self._limits[other], target
                )  # because nothing is in the memory of a worker that is down

    def _ends_a_leak(self, group: str, request: _Request) -> bool:
        """End the worker whose leak in borrowed memory alone keeps `group` from its own part; False without one."""
        lacking_bytes = _total(_minus(self._missing(group, request), self._free()))
        for other, limit in self._limits.items():
            leaked_bytes = min(self._leaked.get(other, 0), _total(_minus(limit, self.guaranteed[other])))
            if other != group and lacking_bytes <= leaked_bytes:
                self._leaked.pop(other)
                detail = f"models that are gone or hang keep {leaked_bytes >> 20} MiB that group {group} needs"
                self._end(other, detail)
                return True
        return False

    def _own(self, group: str) -> MemoryLimit:
        """Return what is guaranteed to a group, less what its killed workers hold."""
        ending = self._ending.get(group)
        return self.guaranteed[group] if ending is None else _minus(self.guaranteed[group], ending.limit)

    def _is_in_vain(self) -> bool:
        """Return True where killed workers hold so much of what others are guaranteed that nothing brings it back."""
        return any(not _is_within(one.limit, self.guaranteed[group]) for group, one in self._ending.items())

    def _missing(self, group: str, request: _Request) -> MemoryLimit:
        return _minus(_smaller(request.asked.limit, self._whole), self._limits[group])

    def _free(self) -> MemoryLimit:
        free = self._whole
        for limit in self.taken.values():
            free = _minus(free, limit)
        return free


def _minus(one: MemoryLimit, other: MemoryLimit) -> MemoryLimit:
    """Return the difference, 0 where it is negative."""
    return MemoryLimit(max(0, one.host_bytes - other.host_bytes), max(0, one.device_bytes - other.device_bytes))


def _plus(one: MemoryLimit, other: MemoryLimit) -> MemoryLimit:
    return MemoryLimit(one.host_bytes + other.host_bytes, one.device_bytes + other.device_bytes)


def _smaller(one: MemoryLimit, other: MemoryLimit) -> MemoryLimit:
    return MemoryLimit(min(one.host_bytes, other.host_bytes), min(one.device_bytes, other.device_bytes))


def _larger(one: MemoryLimit, other: MemoryLimit) -> MemoryLimit:
    return MemoryLimit(max(one.host_bytes, other.host_bytes), max(one.device_bytes, other.device_bytes))


def _total(one: MemoryLimit) -> int:
    return one.host_bytes + one.device_bytes


def _is_within(one: MemoryLimit, other: MemoryLimit) -> bool:
    return one.host_bytes <= other.host_bytes and one.device_bytes <= other.device_bytes
