"""The agent under faults: nothing that it promised to keep is lost, nothing comes out of order, little comes twice."""

import os
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from chaos.faults import Fault, drawn
from chaos.history import History, Sending
from chaos.ordeal import Ordeal, python_with_clock
from chaos.truth import LIMIT_S, Truth

SECONDS = float(os.environ.get("CHANGEOVER_TEST_CHAOS_SECONDS", "600"))
SEEDS = [int(seed) for seed in os.environ.get("CHANGEOVER_TEST_CHAOS_SEEDS", "1,2,3,4,5").split(",")]
SHORT = [
    Fault(1, "cut", 0.3),
    Fault(1, "black hole", 6, kills=True),
    Fault(2, "broker killed", 2),
    Fault(5, "half-open", 3),
    Fault(4, "agent killed", 0.5),
    Fault(4, "clock set", 1, ahead_s=-7200),
    Fault(4, "slow", 4),
    Fault(4, "refusals", 4, share=1.0),
    Fault(4, "refusals", 8, share=0.5),
]


def test_a_few_faults_lose_nothing(make_ordeal: Callable[..., Ordeal]) -> None:
    outcome = make_ordeal("always").suffer(SHORT)
    assert outcome.boots == 3
    assert outcome.lies == 0
    assert outcome.named > 1
    assert outcome.refused > 20
    assert outcome.verdict.messages > 300
    assert (outcome.verdict.lost, outcome.verdict.out_of_order, outcome.dropped) == ([], [], 0)
    assert outcome.verdict.repeated_share <= 0.05


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 900)
@pytest.mark.parametrize("seed", SEEDS)
def test_always_random_faults_lose_nothing(make_ordeal: Callable[..., Ordeal], seed: int) -> None:
    outcome = make_ordeal("always").suffer(drawn(seed, SECONDS))
    assert (outcome.verdict.lost, outcome.verdict.out_of_order, outcome.dropped, outcome.lies) == ([], [], 0, 0)
    assert outcome.verdict.repeated_share <= 0.005


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 900)
@pytest.mark.parametrize("seed", SEEDS)
def test_offline_random_faults_lose_only_what_a_kill_finds_in_memory(
    make_ordeal: Callable[..., Ordeal], seed: int
) -> None:
    outcome = make_ordeal("offline").suffer(drawn(seed, SECONDS))
    assert (outcome.verdict.out_of_order, outcome.dropped, outcome.lies) == ([], 0, 0)
    # two streams at 15 fps, and a second's doubt at each kill
    assert len(outcome.verdict.lost) <= 45 * (outcome.boots - 1)


@pytest.mark.soak
def test_twenty_restarts_of_the_broker_lose_nothing(make_ordeal: Callable[..., Ordeal]) -> None:
    outcome = make_ordeal("offline").suffer([Fault(2, "broker killed", 1.0)] * 20)
    assert (outcome.verdict.lost, outcome.verdict.out_of_order, outcome.dropped) == ([], [], 0)


def test_the_checker_sees_gaps_repeats_and_disorder() -> None:
    history = History()

    def pass_(seq: int, *, topic: str = "replay", boot: str = "a", acknowledged: bool = True) -> None:
        sending = Sending(1, topic, (boot, "cam-1", seq))
        history.passed(sending)
        if acknowledged:
            history.acknowledged(sending)

    for seq in (0, 1, 4):
        pass_(seq, topic="detections")
    pass_(3)
    pass_(2)
    pass_(2)
    pass_(6, acknowledged=False)
    pass_(0, boot="b")
    verdict = history.verdict()
    assert verdict.messages == 8
    assert verdict.lost == [("a", "cam-1", 5), ("a", "cam-1", 6)]
    assert verdict.repeated == 1
    assert verdict.out_of_order == [("replay", ("a", "cam-1", 3), ("a", "cam-1", 2))]


def test_the_checker_sees_a_product_that_is_named_for_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr("chaos.truth.time", SimpleNamespace(monotonic=lambda: now_s))
    truth = Truth()
    truth.wants(b"17")
    truth.says("ready", b"17")
    truth.says("status", b"online")
    for value in (b"17", b"0"):
        truth.wants(value)
        truth.look()
        now_s += LIMIT_S + 1
        truth.look()
        assert truth.lies == (value == b"0")
    truth.says("status", b"offline")
    truth.look()
    now_s += LIMIT_S + 1
    truth.look()
    assert truth.lies == 1


def test_a_seed_is_a_run_that_can_be_repeated() -> None:
    assert list(drawn(7, 300)) == list(drawn(7, 300))
    assert {fault.kind for fault in drawn(7, 300)} >= {
        "disk full",
        "broker frozen",
        "half-open",
        "agent killed",
        "clock set",
    }


def test_an_isolated_python_has_the_clock_that_is_set(tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    clock.write_bytes(struct.pack("d", 7200.0))
    command = [python_with_clock(tmp_path / "python"), "-I", "-c", "import paho.mqtt, time; print(time.time())"]
    said = subprocess.check_output(command, env={**os.environ, "CHANGEOVER_TEST_CLOCK": str(clock)}, text=True)
    assert abs(float(said) - time.time() - 7200) < 600
