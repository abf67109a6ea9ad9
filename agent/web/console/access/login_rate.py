"""Rate limit of logins: tries for each network and for each known browser, and a bound for all networks together."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agent.web.serving.listener import network_of

_KEYS: Final = 256


@dataclass(frozen=True)
class Allowance:
    """Tries at once, and the seconds in which one is given back."""

    tries: int
    each_s: float


PER_ADDRESS: Final = Allowance(5, 12.0)
ALL: Final = Allowance(30, 2.0)


@dataclass
class _Bucket:
    left: float
    at_s: float


class LoginRate:
    """Counter of tries to log in; names have no allowance, because anybody could then lock a user out."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s: Final = clock_s
        self._by_key: Final[OrderedDict[tuple[str, str], _Bucket]] = OrderedDict()
        self._all: Final = _Bucket(ALL.tries, clock_s())

    def take(self, address: str, browser: str = "") -> float:
        """Take a try before the password is looked at; return 0, or the seconds until there is one.

        `browser` is the key of one that the user has logged in with: it has tries of its own, whoever else tries.
        """
        key = _key(address, browser)
        if key not in self._by_key and len(self._by_key) >= _KEYS:
            self._by_key.popitem(last=False)
        own = self._by_key.setdefault(key, _Bucket(PER_ADDRESS.tries, self._clock_s()))
        self._by_key.move_to_end(key)
        wait_s = max(self._wait_s(own, PER_ADDRESS), 0.0 if browser else self._wait_s(self._all, ALL))
        if wait_s == 0:
            self._add(key, -1, is_known=bool(browser))
        return wait_s

    def give_back(self, address: str, browser: str = "") -> None:
        """Give the try of a good login back."""
        self._add(_key(address, browser), 1, is_known=bool(browser))

    def _add(self, key: tuple[str, str], tries: int, *, is_known: bool) -> None:
        own = self._by_key.get(key)
        if own is not None:
            self._change(own, PER_ADDRESS, tries)
        if not is_known:
            self._change(self._all, ALL, tries)

    def _wait_s(self, bucket: _Bucket, allowance: Allowance) -> float:
        return max(0.0, (1 - self._left(bucket, allowance)) * allowance.each_s)

    def _change(self, bucket: _Bucket, allowance: Allowance, by: int) -> None:
        bucket.left, bucket.at_s = min(allowance.tries, self._left(bucket, allowance) + by), self._clock_s()

    def _left(self, bucket: _Bucket, allowance: Allowance) -> float:
        return min(allowance.tries, bucket.left + (self._clock_s() - bucket.at_s) / allowance.each_s)


def _key(address: str, browser: str) -> tuple[str, str]:
    return ("browser", browser) if browser else ("network", network_of(address))
