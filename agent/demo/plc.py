"""Scripted PLC of the demo, written as docs/plc.md asks: repeats orders, and runs the belt by `live`."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from typing import Final

from agent.demo.plant_files import BELT, UNKNOWN, WALKWAY

_log: Final = logging.getLogger(__name__)
_LIVE_MAX_AGE_S: Final = 3.0
"""The contract's interlock: a PLC may run while the last `live` is its product and younger than this."""
_REPEAT_S: Final = 1.0
"""Orders are not retained, so the PLC repeats them; the device treats repeats as one change."""
_PATIENCE_S: Final = 45.0
_RUN_S: Final = 4.0
SCRIPT: Final = (
    *("bottle-500", "jar-250", "can-330", UNKNOWN, "can-330"),
    *("tube-75", "tray-12", "bottle-500-fine", "bottle-500", "tray-12"),
)


@dataclass(frozen=True)
class Belt:
    """Actuator of the belt: `show` sets the product whose parts travel on it, None for an empty belt."""

    show: Callable[[str | None], None]


class Interlock:
    """The plain rule of docs/plc.md: a line may run while the last `live` is its product and younger than 3 s."""

    def __init__(self) -> None:
        self.product: str | None = None
        self.last = ""
        self._heard_s = float("-inf")

    def order(self, product: str) -> None:
        """Change the product; forgets the last `live`, which belonged to the previous product."""
        if product != self.product:
            self.product, self.last = product, ""

    def take(self, live: str, now_s: float) -> None:
        """Take a `live` message."""
        self.last, self._heard_s = live, now_s

    def may_run(self, now_s: float) -> bool:
        """Return True where the line may run."""
        return self.product is not None and self.last == self.product and now_s - self._heard_s < _LIVE_MAX_AGE_S


class Order:
    """Repeated publishing of one line's product, each second for as long as `tick` is called."""

    def __init__(self, topic: str, publish: Callable[[str, str], None]) -> None:
        self._topic: Final = topic
        self._publish: Final = publish
        self._due_s = float("-inf")

    def tick(self, product: str, now_s: float) -> None:
        """Publish `product` where a repeat is due."""
        if now_s >= self._due_s:
            self._due_s = now_s + _REPEAT_S
            self._publish(self._topic, product)

    def at_once(self) -> None:
        """Make the next `tick` publish."""
        self._due_s = float("-inf")


class Plc:
    """State machine of the PLC's program, which never blocks; for one thread."""

    def __init__(
        self,
        base: str,
        publish: Callable[[str, str], None],
        belt: Belt,
        complain: Callable[[str], None],
        refused: Callable[[], None],
    ) -> None:
        self._base: Final = base
        self._belt: Final = belt
        self._complain: Final = complain
        self._refused: Final = refused
        self._script: Final = cycle(SCRIPT)
        self._line: Final = Interlock()
        self._walkway: Final = Interlock()
        self._orders: Final = {line: Order(f"{base}/line/{line}/product/set", publish) for line in (BELT, WALKWAY)}
        self._asked_s = 0.0
        self._next_s: float | None = None
        self._shown: str | None = None
        self._rejected = False
        self._walkway.order("open")

    def take(self, topic: str, payload: bytes, now_s: float, *, retained: bool = False) -> None:
        """Take one message of the device; a retained `live` is ignored, because it may be old."""
        if topic == f"{self._base}/ack":
            ack = json.loads(payload)
            self._rejected |= ack["result"] == "rejected" and ack["reason"] == "unknown_product"
        elif retained:
            return
        elif topic == f"{self._base}/line/{BELT}/live":
            self._line.take(payload.decode(), now_s)
        elif topic == f"{self._base}/line/{WALKWAY}/live":
            self._walkway.take(payload.decode(), now_s)

    def may_run(self, now_s: float) -> bool:
        """Return True where the interlock lets the belt run."""
        return self._line.may_run(now_s)

    def tick(self, now_s: float) -> None:
        """Advance the script, and move the belt as the interlock allows; call it often."""
        if self._line.product is None:
            self._ask(now_s)
        elif self._line.product == UNKNOWN:
            self._wait_for_refusal(now_s)
        elif self._next_s is None:
            self._wait_for_ready(now_s)
        elif now_s >= self._next_s:
            self._ask(now_s)
        self._order(now_s)
        self._move(now_s)

    def _order(self, now_s: float) -> None:
        for line, interlock in ((BELT, self._line), (WALKWAY, self._walkway)):
            if interlock.product is not None and not interlock.may_run(now_s):
                self._orders[line].tick(interlock.product, now_s)

    def _move(self, now_s: float) -> None:
        shown = self._line.product if self._line.may_run(now_s) else None
        if shown != self._shown:
            self._shown = shown
            self._belt.show(shown)

    def _ask(self, now_s: float) -> None:
        product = next(self._script)
        self._asked_s, self._next_s, self._rejected = now_s, None, False
        self._line.order(product)
        self._orders[BELT].at_once()
        _log.info("event=plc_asks product=%s", product)

    def _wait_for_ready(self, now_s: float) -> None:
        if self.may_run(now_s):
            waited_ms = (now_s - self._asked_s) * 1000
            _log.info("event=plc_runs product=%s waited_ms=%.0f", self._line.product, waited_ms)
            self._next_s = now_s + _RUN_S
        elif now_s - self._asked_s > _PATIENCE_S:
            self._complain(f"{self._line.product} was not ready within {_PATIENCE_S:g} s")
            self._ask(now_s)

    def _wait_for_refusal(self, now_s: float) -> None:
        if self._rejected and self._line.last == "0":
            self._refused()
            self._ask(now_s)
        elif now_s - self._asked_s > _PATIENCE_S:
            self._complain(f"{UNKNOWN} should be rejected, and live 0: {self._rejected=}, live {self._line.last!r}")
            self._ask(now_s)
