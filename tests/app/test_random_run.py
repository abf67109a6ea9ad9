"""A plant on a bad day, seen from the broker: nothing that is said there is ever untrue, and everybody is answered."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.brokers import Mosquitto
from support.random_run import RandomRun
from support.running_agent import BASE, RunningAgent
from support.witness import Sent, Witness

from agent.mqtt.blocking_client import Arrival, BlockingClient

MODELS = {"line-1": {"bottle-500": "a", "17": "b", "crate": "a"}, "line-2": {"open": "b", "shut": "a"}}
SHORT_S = 35.0
LONG_S = float(os.environ.get("SOAK_S", "900"))
SEED = int(os.environ.get("SOAK_SEED", "1"))


@pytest.mark.parametrize("persistence", [True, False])
@pytest.mark.parametrize(
    ("seconds", "seed"),
    [(SHORT_S, 1), pytest.param(LONG_S, SEED, marks=[pytest.mark.soak, pytest.mark.timeout(LONG_S + 600)])],
)
def test_a_bad_day(  # noqa: PLR0913, PLR0917 - fixtures
    make_mosquitto: Callable[..., Mosquitto],
    ears: Callable[[int], tuple[BlockingClient, BlockingClient]],
    tmp_path: Path,
    persistence: bool,  # noqa: FBT001 - a parameter of the test
    seconds: float,
    seed: int,
) -> None:
    broker = make_mosquitto(persistence=persistence)
    plc, ear = ears(broker.port)
    agent = RunningAgent(tmp_path / "box", broker.url, plc, two_products_each)
    witness = Witness(BASE, MODELS)
    day = RandomRun(agent, broker, plc, ear, witness, seed)
    try:
        agent.start()
        day.run(seconds)
        day.settle()
    finally:
        agent.kill()
    finals = sum(bool(one.finals) for one in witness.sent.values())
    print(  # noqa: T201 - measured figures
        f"\nseed={seed} seconds={seconds:.0f} detections={witness.detections} while_named={witness.named}"
        f" commands={len(witness.sent)} answered={finals} dropped={ear.dropped} faults={day.faults}"
    )
    assert not witness.violations, witness.violations[:5]
    assert ear.dropped == 0
    assert witness.named > 20
    assert "message_failed" not in agent.log()


def two_products_each(settings: dict[str, Any]) -> None:
    settings["line"]["line-2"]["products"]["shut"] = "alpha"


def detection(model: str, label: str) -> Arrival:
    payload = f'{{"line":"line-1","model":"{model}","objects":[{{"label":"{label}"}}]}}'
    return Arrival(f"{BASE}/stream/cam-1/detections", payload.encode(), retained=False, at_s=10.0)


def said(topic: str, payload: str) -> Arrival:
    return Arrival(f"{BASE}/{topic}", payload.encode(), retained=False, at_s=9.0)


@pytest.mark.parametrize(
    ("heard", "violations"),
    [
        ([said("status", "online"), said("line/line-1/ready", "17"), detection("beta:n@1", "b-good")], 0),
        ([said("status", "online"), said("line/line-1/ready", "17"), detection("alpha:n@1", "a-good")], 1),
        ([said("status", "offline"), said("line/line-1/ready", "17"), detection("alpha:n@1", "a-good")], 0),
        ([said("line/line-1/live", "17"), detection("alpha:n@1", "a-good")], 1),
        ([detection("alpha:n@1", "b-good")], 1),
        ([said("ack", '{"id":"x","result":"done","reason":null}')] * 2, 0),
        ([said("ack", f'{{"id":"x","result":"{word}","reason":null}}') for word in ("done", "noop")], 1),
        ([said("ack", '{"id":"x","result":"failed","reason":"superseded"}')], 2),
        ([said("ack", '{"id":"x","result":"accepted","reason":null}')], 1),
    ],
)
def test_the_witness_sees_what_it_is_there_to_see(heard: list[Arrival], violations: int) -> None:
    witness = Witness(BASE, MODELS)
    ends: frozenset[tuple[str, str | None]] = frozenset({("done", None), ("noop", None)})
    witness.sent["x"] = Sent("line-1", 1, "t", "p", ends, 0.0)
    for arrival in heard:
        witness.take(arrival)
    witness.finish()
    assert len(witness.violations) == violations, witness.violations
