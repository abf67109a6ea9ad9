"""Caps come at once, step down while it stays bad, and go slowly; swinging about a threshold moves nothing."""

from dataclasses import replace

import pytest

from agent.health.sensors.host import HostReading
from agent.health.sensors.reading import Reading, Zone
from agent.health.sensors.stress_caps import CALM_S, STEP_S, Cap, Stress

GIB = 2**30
PLENTY = HostReading(8 * GIB, 4 * GIB, 4 * GIB, stalled=0.0, halted=0.0)
N, S, M, X = 1.0, 2.0, 3.0, 5.0


class Bench:
    """Looks once a second, and keeps the caps that changed, with the second at which they did."""

    def __init__(self, hot_c: float | None = None) -> None:
        self.stress = Stress(hot_c)
        self.now_s = 0.0
        self.memory = PLENTY
        self.changes: list[tuple[float, str, str | None]] = []

    def heat(self, celsius: float | None, seconds: float = 1, largest: float | None = M) -> list[Cap]:
        zones = {"cpu": Zone(celsius, 99.0), "ambient": Zone(20.0)} if celsius is not None else {}
        found = []
        for _ in range(int(seconds)):
            self.now_s += 1
            caps = self.stress.look(self.now_s, Reading("dummy", zones=zones), self.memory, largest)
            self.changes += [(self.now_s, cap.rule, cap.max_variant) for cap in caps]
            found += caps
        return found


@pytest.mark.parametrize(("largest", "cap"), [(X, "l"), (M, "s"), (2.5, "s"), (S, "n"), (N, "n"), (None, "l")])
def test_the_first_cap_is_below_the_largest_variant_that_serves(largest: float | None, cap: str) -> None:
    assert [one.max_variant for one in Bench().heat(94.0, largest=largest)] == [cap]


def test_it_steps_down_while_it_stays_hot_and_up_when_it_was_cool_for_long() -> None:
    bench = Bench()
    bench.heat(94.5, STEP_S * 3)
    assert bench.changes == [(1, "temperature", "s"), (1 + STEP_S, "temperature", "n")]
    assert bench.stress.caps() == {"temperature": "n"}
    bench.changes.clear()
    began_s = bench.now_s
    bench.heat(80.0, CALM_S * 6)
    steps = [variant for _, _, variant in bench.changes]
    assert steps == ["s", "m", "l", None]
    assert [round(at_s - began_s) for at_s, _, _ in bench.changes] == [CALM_S * k + 1 for k in (1, 2, 3, 4)]
    assert bench.stress.caps() == {}


def test_at_its_limit_the_smallest_runs_at_once() -> None:
    bench = Bench()
    caps = bench.heat(99.0, largest=X)
    assert [(one.rule, one.max_variant, one.value) for one in caps] == [("temperature", "n", "cpu 99.0 C, limit 99 C")]


def test_swinging_about_a_threshold_moves_nothing() -> None:
    bench = Bench()
    for _ in range(300):
        bench.heat(94.5)
        bench.heat(93.0)
    assert bench.changes[0] == (1, "temperature", "s")
    assert all(variant in {"s", "n"} for _, _, variant in bench.changes)
    assert len(bench.changes) <= 2
    bench.changes.clear()
    for _ in range(300):
        bench.heat(86.0)
        bench.heat(88.0)  # not yet good: never calm for long enough
    assert bench.changes == []


def test_without_a_reading_everything_stays() -> None:
    bench = Bench()
    bench.heat(94.5)
    bench.changes.clear()
    bench.heat(None, CALM_S * 10)
    assert bench.changes == []
    assert bench.stress.caps() == {"temperature": "s"}


def test_a_temperature_of_the_users_own_counts_for_zones_without_a_limit() -> None:
    bench = Bench(hot_c=70.0)
    zones = {"k10temp": Zone(70.0)}
    assert Stress().look(1.0, Reading("psutil", zones=zones), PLENTY, M) == []
    assert [one.max_variant for one in bench.stress.look(1.0, Reading("psutil", zones=zones), PLENTY, M)] == ["s"]
    assert bench.heat(60.0, 2) == []


@pytest.mark.parametrize(
    ("memory", "cap"),
    [
        (replace(PLENTY, free_bytes=int(0.04 * 8 * GIB)), "s"),
        (replace(PLENTY, free_bytes=int(0.01 * 8 * GIB)), "n"),
        (replace(PLENTY, stalled=0.25), "s"),
        (replace(PLENTY, stalled=0.9, halted=0.3), "n"),
        (replace(PLENTY, stalled=None, halted=None, free_bytes=int(0.04 * 8 * GIB)), "s"),
    ],
)
def test_want_of_memory_lowers_variants_and_lets_go_when_there_is_plenty(memory: HostReading, cap: str) -> None:
    bench = Bench()
    bench.memory = memory
    assert [(one.rule, one.max_variant) for one in bench.heat(50.0)] == [("memory", cap)]
    bench.memory = replace(PLENTY, stalled=0.1)
    bench.changes.clear()
    bench.heat(50.0, CALM_S * 3)
    assert bench.changes == [], "some still wait: it is not good yet"
    bench.memory = PLENTY
    bench.heat(50.0, CALM_S * 6)
    assert bench.changes[-1][1:] == ("memory", None)


def test_heat_and_memory_are_two_caps() -> None:
    bench = Bench()
    bench.memory = replace(PLENTY, stalled=0.5)
    bench.heat(94.5, largest=X)
    assert bench.stress.caps() == {"temperature": "l", "memory": "l"}
