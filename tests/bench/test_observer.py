"""The PLC of a benchmark tells a wrong answer from a right one, and counts frames by their numbers."""

import json
from typing import Any

import pytest

from agent.bench.memory.ledger_watch import LedgerWatch, Load, Release, returned_shares, transients
from agent.bench.memory.process_memory import Probe, Reading
from agent.bench.plant.bench_plant import BASE
from agent.bench.plant.device import Changeover
from agent.bench.plant.observer import Observer, Seen, gaps
from agent.bench.swap.resident_swaps import lost
from agent.messages.payloads import Cache, CacheModel, Cause, Switch
from agent.mqtt.blocking_client import Arrival

MIB = 1 << 20


def detections(label: str | None, model: str = "part-n-b:n@1", **fields: Any) -> Arrival:  # noqa: ANN401 - of the payload
    found = [] if label is None else [{"label": label, "class": 0, "score": 0.9, "box": [0, 0, 9, 9]}]
    payload = {
        "v": 1,
        "device": "bench",
        "line": "line-1",
        "stream": "cam-1",
        "product": "n-b",
        "ready": True,
        "model": model,
        "boot": "1",
        "seq": 1,
        "frame": 1,
        "captured_at": "2026-01-01T06:00:00.000Z",
        "latency_ms": 20.0,
        "width": 64,
        "height": 64,
        "objects": found,
    }
    return Arrival(f"{BASE}/stream/cam-1/detections", json.dumps(payload | fields).encode(), False, 1.0)


def wrong(*arrivals: Arrival) -> int:
    observer = Observer()
    for arrival in arrivals:
        observer.take(arrival)
    return observer.wrong_model


def test_a_label_of_another_model_betrays_it() -> None:
    assert wrong(detections("n-b/3")) == 0
    assert wrong(detections("n/3")) == 1
    assert wrong(detections("n-b/3", model="part-n:n@1")) == 1


def test_an_answer_without_the_object_that_a_model_always_finds_is_wrong() -> None:
    assert wrong(detections(None)) == 1


def seen(frame: int, at_s: float | None = None, model: str = "a") -> Seen:
    return Seen(frame / 10 if at_s is None else at_s, frame, model, 20.0)


def test_gaps_are_counted_by_the_frames_numbers() -> None:
    found = gaps([seen(number) for number in (3, 4, 7, 8)])
    assert (found.missing, found.offered, found.share) == (2, 5, 0.4)
    assert gaps([]).share == 0


def changeover(asked_s: float, first: Seen, missing: int) -> Changeover:
    cause = Cause("product")
    report = Switch("line-1", "b", "a", "b", cause, "switched", None, "resident", None, "", "", 0, 0, 0, 0, 0)
    return Changeover(asked_s, asked_s, first, asked_s, report, missing)


def test_what_a_swap_lost_is_what_it_lost_beyond_the_steady_rate() -> None:
    steady = [seen(number) for number in range(40) if number not in {20, 21}]
    assert lost([changeover(1.95, steady[20], 2)], steady) == 2, "none is missing anywhere else"
    losing = [seen(number) for number in range(0, 40, 2)]
    assert lost([changeover(0.35, losing[2], 1), changeover(1.95, losing[11], 1)], losing) == 0, "it loses every other"


def cache(*models: tuple[str, int, str]) -> Cache:
    rows = [CacheModel(name, mib * MIB, state, "2026-01-01T06:00:00.000Z") for name, mib, state in models]
    return Cache(100 * MIB, sum(row.bytes for row in rows), rows)


def test_predictions_are_compared_with_measures_and_counted_by_load() -> None:
    watch = LedgerWatch()
    for mib in (20, 30):
        watch.take(0, cache(("a", mib, "loading")))
        watch.take(0, cache(("a", 25, "loading")))
        watch.take(0, cache(("a", 25, "active")))
        watch.take(0, cache())
    assert [(one.predicted_bytes // MIB, one.measured_bytes // MIB) for one in watch.loads] == [(20, 25), (30, 25)]
    assert [one.error for one in watch.after_load(2)] == [0.2]
    assert watch.after_load(3) == []


def test_a_load_that_failed_is_neither_a_load_nor_a_release() -> None:
    watch = LedgerWatch()
    watch.take(0, cache(("a", 20, "loading")))
    watch.take(1, cache(("a", 20, "releasing")))
    watch.take(2, cache())
    assert (watch.loads, watch.releases) == ([], [])


def test_a_release_is_measured_by_what_the_kernel_saw_back() -> None:
    watch = LedgerWatch()
    watch.take(9.0, cache(("a", 50, "resident")))
    watch.take(10.0, cache(("a", 50, "releasing")))
    watch.take(10.1, cache(("a", 10, "releasing")))
    assert watch.releases == [Release(10.0, "a", 50 * MIB)]
    probe = Probe(lambda: 0, 1)
    levels = [(9.95, 200), (10.05, 180), (10.3, 152), (10.4, 190), (11.0, 100)]
    probe.readings.extend(Reading(at_s, mib * MIB) for at_s, mib in levels)
    assert returned_shares(watch, 0, probe) == [0.96], "the trough counts, and what comes back later does not"
    assert returned_shares(watch, 11, probe) == []


@pytest.mark.parametrize(("load_s", "shares"), [((), [0.9]), ((10.15, 10.18), [0.4, 1.4])])
def test_models_that_go_together_are_measured_together(load_s: tuple[float, ...], shares: list[float]) -> None:
    watch = LedgerWatch(
        releases=[Release(10.0, "a", 50 * MIB), Release(10.2, "b", 50 * MIB)],
        loads=[Load("c", 0, 0, *load_s)] if load_s else [],
    )
    probe = Probe(lambda: 0, 1)
    levels = [(9.95, 200), (10.05, 180), (10.15, 180), (10.3, 130), (10.45, 110)]
    probe.readings.extend(Reading(at_s, mib * MIB) for at_s, mib in levels)
    assert returned_shares(watch, 0, probe) == shares


def test_a_loads_transient_is_its_peak_beyond_what_stays() -> None:
    probe = Probe(lambda: 0, 1)
    levels = [(1.0, 100), (1.5, 260), (1.9, 210), (2.1, 230), (2.35, 180), (2.5, 180)]
    probe.readings.extend(Reading(at_s, mib * MIB) for at_s, mib in levels)
    assert transients([Load("a", 0, 0, begun_s=1.2, ended_s=2.0)], probe) == [80 * MIB]
