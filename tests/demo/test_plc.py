"""The demo's PLC keeps to docs/plc.md: it repeats its order, and its belt moves only as `live` allows."""

import json

import pytest

from agent.demo.plant_files import BELT, UNKNOWN, WALKWAY
from agent.demo.plc import SCRIPT, Belt, Plc

LIVE = f"base/line/{BELT}/live"
ORDER = f"base/line/{BELT}/product/set"
REFUSAL = json.dumps({"result": "rejected", "reason": "unknown_product"}).encode()


class Plant:
    """A PLC, and all that it does."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.shown: list[str | None] = []
        self.complaints: list[str] = []
        self.refused = 0
        self.plc = Plc(
            "base",
            lambda topic, product: self.sent.append((topic, product)),
            Belt(self.shown.append),
            self.complaints.append,
            self._refuse,
        )

    def _refuse(self) -> None:
        self.refused += 1

    def run(self, from_s: float, to_s: float, live: str | None = None) -> None:
        """Let time pass; `live` says this each second, None nothing."""
        ticks = range(round(from_s * 10), round(to_s * 10))
        for tick in ticks:
            if live is not None and tick % 10 == 0:
                self.plc.take(LIVE, live.encode(), tick / 10)
            self.plc.tick(tick / 10)

    def orders(self, topic: str = ORDER) -> list[str]:
        return [product for to, product in self.sent if to == topic]


@pytest.fixture
def plant() -> Plant:
    return Plant()


def test_an_order_is_sent_each_second_until_live_names_it(plant: Plant) -> None:
    plant.run(0, 5, live="0")
    assert plant.orders() == [SCRIPT[0]] * 5
    assert plant.shown == []
    plant.run(5, 8, live=SCRIPT[0])
    assert plant.orders() == [SCRIPT[0]] * 5
    assert plant.shown == [SCRIPT[0]]


def test_the_other_line_s_order_is_repeated_as_well(plant: Plant) -> None:
    topic = f"base/line/{WALKWAY}/product/set"
    plant.run(0, 3)
    assert plant.orders(topic) == ["open"] * 3
    plant.plc.take(f"base/line/{WALKWAY}/live", b"open", 3.0)
    plant.run(3, 5)
    assert plant.orders(topic) == ["open"] * 3


def test_the_belt_stops_when_live_falls_silent_or_says_0_and_the_order_is_repeated(plant: Plant) -> None:
    plant.run(0, 1.1, live=SCRIPT[0])
    assert plant.shown == [SCRIPT[0]]
    plant.run(1.1, 4.5)
    assert plant.shown == [SCRIPT[0], None]
    assert plant.orders() == [SCRIPT[0]] * 2
    plant.plc.take(LIVE, SCRIPT[0].encode(), 4.5)
    plant.run(4.5, 4.7)
    assert plant.shown[-1] == SCRIPT[0]
    plant.plc.take(LIVE, b"0", 4.7)
    plant.run(4.7, 4.8)
    assert plant.shown[-1] is None


def test_what_live_said_of_the_product_before_and_what_is_retained_start_nothing(plant: Plant) -> None:
    plant.plc.take(LIVE, SCRIPT[0].encode(), 0.0)
    plant.run(0, 0.5)
    plant.plc.take(LIVE, SCRIPT[0].encode(), 0.6, retained=True)
    plant.run(0.6, 1.0)
    assert plant.shown == []


def test_a_refusal_is_waited_for_and_live_must_be_0(plant: Plant) -> None:
    now_s = 0.0
    for product in SCRIPT[: SCRIPT.index(UNKNOWN)]:
        plant.run(now_s, now_s + 6, live=product)
        now_s += 6
        while plant.orders()[-1] == product:
            plant.run(now_s, now_s + 0.1)
            now_s += 0.1
    assert plant.orders()[-1] == UNKNOWN
    plant.plc.take("base/ack", REFUSAL, now_s)
    plant.run(now_s, now_s + 3)
    assert plant.refused == 0, "live did not say 0"
    plant.plc.take(LIVE, b"0", now_s + 3)
    plant.run(now_s + 3, now_s + 4)
    assert plant.refused == 1
    assert plant.complaints == []
    assert plant.orders()[-1] == SCRIPT[SCRIPT.index(UNKNOWN) + 1]
