"""Whatever comes on any in-topic: no exception, and no change but what the contract gives."""

import json
import random
from dataclasses import replace

import msgspec
import pytest
from support.hostile import payloads, unreadable
from support.plant_bench import BASE, Bench, acks, plant

from agent.app.configuration.json_path import reader
from agent.control import snapshot
from agent.control.actions import Action, Answer, PublishEvent, PublishState
from agent.control.events import Reloaded
from agent.control.plant import Binding
from agent.control.snapshot import LineSnapshot
from agent.control.state import State
from agent.messages.events import Received, Reply

SLICES = 10
IN_A_SLICE = 1_000
PLAIN, PATH = "plant/a/plc7/recipe", "plant/a/plc8/order"
TOPICS = (
    f"{BASE}/line/line-1/product/set",
    f"{BASE}/line/line-1/model/set",
    f"{BASE}/line/line-1/prepare",
    f"{BASE}/line/line-9/product/set",
    f"{BASE}/line/{'y' * 300}/prepare",
    f"{BASE}/line//model/set",
    f"{BASE}/line/line-1/product/set/more",
    f"{BASE}/schedule/set",
    f"{BASE}/models/set",
    f"{BASE}/bandwidth/set",
    f"{BASE}/cmd/rollback",
    f"{BASE}/cmd/reload",
    f"{BASE}/cmd/",
    f"{BASE}/cmd/\N{SNOWMAN}",
    f"{BASE}/meta",
    f"{BASE}/ping",
    PLAIN,
    PATH,
)


def make_bench() -> Bench:
    bindings = (Binding(PLAIN, "line-1"), Binding(PATH, "line-1", reader("$..recipe")))
    bench = Bench(State.of(replace(plant(), bindings=bindings)))
    bench.start()
    bench.product("bottle-500")
    bench.log.clear()
    return bench


def choices(bench: Bench) -> tuple[dict[str, LineSnapshot], str | None, float | None]:
    """Return all that a message may choose, without the record of answers."""
    kept = snapshot.take(bench.state)
    return kept.lines, kept.schedule, kept.kbps


def assert_sendable(actions: list[Action]) -> None:
    for one in actions:
        match one:
            case Answer():
                assert len(msgspec.json.encode(one.ack)) < 4_096 + 6 * len(one.ack.topic)
            case PublishEvent():
                assert msgspec.json.encode(one.payload)
            case PublishState():
                assert len(one.payload) < 65_536


def may_change(actions: list[Action]) -> bool:
    """Return True where something was chosen: of all refusals, an unknown product's alone stops the line."""
    answers = [one for one in acks(actions) if one.result in {"accepted", "done", "noop"}]
    return bool(answers) or any(one.reason == "unknown_product" for one in acks(actions))


@pytest.mark.parametrize("seed", range(SLICES))
def test_hostile_payloads(seed: int) -> None:
    bench, rng = make_bench(), random.Random(seed)
    for payload in payloads(seed, IN_A_SLICE):
        topic = rng.choice(TOPICS)
        before = choices(bench)
        reply = rng.choice([None, Reply("me", b"1"), Reply("x" * 9_000), Reply("me", bytes(2_000))])
        actions = bench.give(Received(topic, payload[: 2**16 + 1], rng.random() < 0.2, reply))
        assert_sendable(actions)
        if not may_change(actions):
            assert choices(bench) == before, (topic, payload)
        if bench.state.reloading and rng.random() < 0.5:
            bench.give(Reloaded(bench.state.plant))
        bench.wait(0.25 * rng.randrange(3))
        if rng.random() < 0.3:
            bench.swap()
        bench.log.clear()
    assert len(msgspec.json.encode(snapshot.take(bench.state))) < 1_000_000
    bench.model("auto")
    bench.swap()
    assert [one.result for one in acks(bench.product("17"))][-1] in {"accepted", "done", "noop"}
    bench.swap()
    bench.wait(95)  # a foreign `boot` may have come on `meta`: that passes
    assert bench.said("line/line-1/ready") == "17", bench.state.lines["line-1"]


@pytest.mark.parametrize("topic", [f"{BASE}/line/line-1/product/set", f"{BASE}/line/line-1/model/set", PLAIN, PATH])
def test_what_is_no_value_changes_nothing_and_says_nothing_but_its_answer(topic: str) -> None:
    bench = make_bench()
    before = choices(bench)
    for payload in unreadable(1, 1_000):
        actions = bench.give(Received(topic, payload))
        assert [type(one).__name__ for one in actions] == ["Answer"], payload
        assert [one.result for one in acks(actions)] == ["rejected"]
    assert choices(bench) == before
    assert bench.said("line/line-1/ready") == "bottle-500"


def test_what_a_schedule_brings_is_that_schedule_or_nothing() -> None:
    bench = make_bench()
    good = {"line": "line-1", "days": "mon-fri", "from": "22:00", "to": "06:00", "timezone": "UTC", "variant": "s"}
    rng = random.Random(5)
    for payload in payloads(5, 2_000):
        damaged = good | {rng.choice(list(good)): payload.decode("latin-1")[:100]}
        before = choices(bench)
        actions = bench.give(Received(f"{BASE}/schedule/set", json.dumps([good, damaged]).encode()))
        results = [one.result for one in acks(actions)]
        assert results in (["rejected"], ["done"], ["noop"])
        assert (choices(bench) != before) == (results == ["done"])
        assert_sendable(actions)
        bench.log.clear()
