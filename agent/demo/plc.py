"""The demo's scripted PLC: announces a product, waits for `live` to name it, and only then lets the belt run."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from typing import Final

from agent.demo.plant import BELT, UNKNOWN, WALKWAY

_log: Final = logging.getLogger(__name__)
_LIVE_MAX_AGE_S: Final = 3.0
"""The interlock of the contract: a PLC may run while the last `live` is its product and younger than this."""
_PATIENCE_S: Final = 45.0
_RUN_S: Final = 4.0
_REFUSAL_S: Final = 1.5
SCRIPT: Final = ("bottle-500", "can-330", UNKNOWN, "can-330", "tray-12", "bottle-500-fine", "bottle-500", "tray-12")


@dataclass(frozen=True)
class Belt:
    """What the PLC moves: which product's parts are on the belt, or None while it stands empty."""

    show: Callable[[str | None], None]


class Plc:
    """One step at a time, never waiting: `tick` is called often, `take` with every message."""

    def __init__(
        self,
        base: str,
        publish: Callable[[str, str], None],
        belt: Belt,
        complain: Callable[[str], None],
        refused: Callable[[], None],
    ) -> None:
        self._base: Final = base
        self._publish: Final = publish
        self._belt: Final = belt
        self._complain: Final = complain
        self._refused: Final = refused
        self._script: Final = cycle(SCRIPT)
        self._product: str | None = None
        self._asked_s = 0.0
        self._next_s: float | None = None
        self._live = ("0", 0.0)
        self._ready = "0"
        self._is_open = False
        self._rejected = False

    def take(self, topic: str, payload: bytes, now_s: float) -> None:
        """Note what the device says of the belt's line."""
        if topic == f"{self._base}/line/{BELT}/live":
            self._live = (payload.decode(), now_s)
        elif topic == f"{self._base}/line/{BELT}/ready":
            self._ready = payload.decode()
        elif topic == f"{self._base}/ack":
            ack = json.loads(payload)
            self._rejected |= ack["result"] == "rejected" and ack["reason"] == "unknown_product"
        elif topic == f"{self._base}/line/{WALKWAY}/model/state" and not self._is_open:
            self._is_open = True
            self._publish(f"{self._base}/line/{WALKWAY}/product/set", "open")

    def may_run(self, now_s: float) -> bool:
        """Return whether the interlock lets the belt run."""
        value, heard_s = self._live
        return self._product is not None and value == self._product and now_s - heard_s < _LIVE_MAX_AGE_S

    def tick(self, now_s: float) -> None:
        """Go on with the script."""
        if self._product is None:
            self._ask(now_s)
        elif self._product == UNKNOWN:
            self._wait_for_refusal(now_s)
        elif self._next_s is None:
            self._wait_for_ready(now_s)
        elif now_s >= self._next_s:
            self._ask(now_s)

    def _ask(self, now_s: float) -> None:
        self._product, self._asked_s, self._next_s, self._rejected = next(self._script), now_s, None, False
        self._belt.show(None)
        _log.info("event=plc_asks product=%s", self._product)
        self._publish(f"{self._base}/line/{BELT}/product/set", self._product)

    def _wait_for_ready(self, now_s: float) -> None:
        if self.may_run(now_s):
            _log.info("event=plc_runs product=%s waited_ms=%.0f", self._product, (now_s - self._asked_s) * 1000)
            self._belt.show(self._product)
            self._next_s = now_s + _RUN_S
        elif now_s - self._asked_s > _PATIENCE_S:
            self._complain(f"{self._product} was not ready within {_PATIENCE_S:g} s")
            self._ask(now_s)

    def _wait_for_refusal(self, now_s: float) -> None:
        if now_s - self._asked_s < _REFUSAL_S:
            return
        if self._rejected and self._ready == "0":
            self._refused()
        else:
            self._complain(f"{UNKNOWN} should be rejected with ready 0: {self._rejected=}, ready {self._ready!r}")
        self._ask(now_s)
