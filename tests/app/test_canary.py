"""A whole agent compares two versions of a model: shadow, canary, promotion, rollback, records and report."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.brokers import Mosquitto
from support.candidates import (
    CANDIDATE,
    NAMES,
    STABLE,
    add_version,
    pinned,
    write_failing_model,
    write_hanging_model,
    write_nan_model,
)
from support.running_agent import DEADLINE_S, RunningAgent
from support.tiny_models import write_tiny_model

from agent.inference.comparing.share import is_of_share
from agent.mqtt.blocking_client import connected
from agent.mqtt.endpoint.link_settings import LinkSettings

SET, TOLD = "line/line-1/canary/set", "line/line-1/canary"
READY = "line/line-1/ready"
Write = Callable[[Path], Path]


def unhurried(settings: dict[str, Any], fps: int = 4) -> None:
    """Leave a busy machine time for each frame, because frames are counted here."""
    pinned(settings)
    for stream in settings["stream"]:
        stream["fps"] = fps


@pytest.fixture
def prepared(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Callable[..., RunningAgent]]:
    """Start an agent whose line is ready with version 1; the argument writes version 2."""
    with connected(LinkSettings("127.0.0.1", mosquitto.port, "plc")) as peer:
        made: list[RunningAgent] = []

        def make(write: Write, fps: int = 4) -> RunningAgent:
            agent = RunningAgent(tmp_path / "box", mosquitto.url, peer, partial(unhurried, fps=fps))
            made.append(agent)
            add_version(agent, write(agent.folder / "alpha-2.onnx"))
            agent.start()
            agent.until(lambda: agent.value("status") == "online")
            agent.ready("bottle-500")
            return agent

        yield make
        for agent in made:
            agent.kill()


def good(path: Path) -> Path:
    return write_tiny_model(path, names=NAMES)


def ask(agent: RunningAgent, **fields: Any) -> None:  # noqa: ANN401 - of the payload
    agent.send(SET, json.dumps({"id": "c1", "candidate": CANDIDATE} | fields))


def told(agent: RunningAgent) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(agent.value(TOLD) or "{}")
    return said


def until(agent: RunningAgent, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - of the payload
    agent.until(lambda: fields.items() <= told(agent).items())
    return told(agent)


def run(agent: RunningAgent, *words: str) -> str:
    command = [sys.executable, "-m", "agent", *words, "--config", str(agent.config)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=DEADLINE_S).stdout


def test_a_good_version_is_shadowed_then_answers_its_share_and_is_promoted(
    prepared: Callable[[Write], RunningAgent],
) -> None:
    agent = prepared(good)
    mark = len(agent.heard)
    ask(agent, mode="shadow", share=1.0, frames=40)
    told_of = until(agent, result="ready_to_promote")
    assert (told_of["agree"], told_of["missing"], told_of["extra"]) == (1.0, 0, 0)
    assert {one["model"] for one in agent.detections("cam-1", mark)} == {STABLE}

    since = len(agent.heard)
    ask(agent, id="c2", mode="canary", share=0.5, frames=100, promote="auto")
    until(agent, mode="canary", stage="running")
    running = len(agent.heard)
    promoted = until(agent, result="promoted")
    assert promoted["agree"] == 1.0
    ended = next(at for at, one in enumerate(agent.heard) if one.topic.endswith(TOLD) and b'"promoted"' in one.payload)
    late = 0
    for stream in ("cam-1", "cam-2"):
        answers = [one for one in agent.detections(stream, running) if one["ready"]]
        assert [one["frame"] for one in answers] == sorted({one["frame"] for one in answers})
        between = {one.payload for one in agent.heard[running:ended]}
        shared = [one for one in agent.on(f"stream/{stream}/detections", running) if one.payload in between]
        answered = [(json.loads(one.payload)["frame"], json.loads(one.payload)["model"]) for one in shared]
        assert {model for frame, model in answered if not is_of_share(frame, 0.5)} == {STABLE}
        assert CANDIDATE in {model for frame, model in answered if is_of_share(frame, 0.5)}
        late += sum(model == STABLE for frame, model in answered if is_of_share(frame, 0.5))
    assert late <= promoted["late"], "the stable model answers for a candidate that is late, and for no other"
    agent.until_said("line/line-1/model/state", CANDIDATE, since)
    assert not [one for one in agent.on(READY, since) if one.payload != b"bottle-500"], "it stayed ready throughout"
    agent.until_inferred("cam-1", CANDIDATE, len(agent.heard))
    switch = json.loads(agent.on("line/line-1/switch", since)[-1].payload)
    assert (switch["cause"]["rule"], switch["result"], switch["frames_lost"]) == ("canary", "switched", 0)
    assert "agreement 1.0000" in switch["detail"]
    agent.logged(r"event=comparison line=line-1 candidate=alpha:n@2 .* result=promoted .* detail='agreement 1.0000")

    agent.until(lambda: "by canary alpha:n@2" in run(agent, "models", "log", "line-1"))
    log = run(agent, "models", "log", "line-1")
    assert 0 < log.index("promoted") < log.index("by canary alpha:n@2"), "in the order in which it happened"
    report = json.loads(run(agent, "canary", "report", "line-1", "--json"))
    assert report["record"]["canary"]["result"] == "promoted"
    assert report["classes"]["a-good"]["agreement"] == 1.0
    page = run(agent, "canary", "report", "--html")
    assert "<svg" in page
    assert "promoted" in page


@pytest.mark.parametrize(
    ("write", "reason", "modes"),
    [
        (write_nan_model, "proof_failed", ["shadow", "canary"]),
        (write_failing_model, "inference_failed", ["shadow", "canary"]),
        (write_hanging_model, "hung", ["canary"]),  # as a shadow it has 20 s
    ],
)
def test_a_version_that_goes_wrong_is_given_up_with_no_frame_lost(
    prepared: Callable[..., RunningAgent], write: Write, reason: str, modes: list[str]
) -> None:
    agent = prepared(write, fps=1)  # because of a frame that hangs a quarter of the period is left to a busy machine
    for mode in modes:
        mark = len(agent.heard)
        ask(agent, id=mode, mode=mode, share=1.0)
        ended = until(agent, result="rolled_back", id=mode)
        assert ended["reason"] == reason
        after = len(agent.heard)
        for stream in ("cam-1", "cam-2"):
            agent.until(lambda one=stream, of=after: len(agent.detections(one, of)) > 5)  # type: ignore[misc] # bound
            frames = [one["frame"] for one in agent.detections(stream, mark)]
            assert frames == list(range(frames[0], frames[-1] + 1)), "each frame has its answer"
            assert {one["model"] for one in agent.detections(stream, after)[2:]} == {STABLE}
        assert agent.value(READY) == "bottle-500"
        assert "candidate_rolled_back" in (agent.value("alerts") or "")
        switch = json.loads(agent.on("line/line-1/switch", mark)[-1].payload)
        way = (CANDIDATE, STABLE) if mode == "canary" else (STABLE, CANDIDATE)
        assert (switch["from"], switch["to"], switch["cause"]["rule"]) == (*way, "canary")
    agent.until(lambda: "rolled_back" in run(agent, "models", "log", "line-1"))


def test_the_most_different_frames_are_kept_where_that_is_asked_for(
    prepared: Callable[[Write], RunningAgent],
) -> None:
    agent = prepared(lambda path: write_tiny_model(path, names=NAMES, boxes=((8, 16, 40, 48, 0.6, 1),)))
    ask(agent, mode="shadow", share=1.0)
    ended = until(agent, result="rolled_back")
    assert ended["reason"] == "disagreement"
    folder = agent.folder / "state" / "comparisons" / "line-1"
    agent.until(lambda: 0 < len(list(folder.glob("*.jpg"))) == len(list(folder.glob("*.json"))))
    page = run(agent, "canary", "report", "line-1", "--html")
    assert "data:image/jpeg;base64," in page
    assert "a-bad 0.60" in page
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 1 << 20


def test_a_killed_worker_and_a_killed_agent_go_on_where_it_stood(prepared: Callable[[Write], RunningAgent]) -> None:
    agent = prepared(good)
    ask(agent, mode="canary", share=0.5, frames=100_000)
    until(agent, stage="running")
    agent.until(lambda: told(agent)["frames"] > 20)
    agent.child("inference").kill()
    until(agent, stage="waiting")
    again = until(agent, stage="running")
    assert (again["result"], again["frames"] > 20) == ("running", True)
    agent.kill()
    mark = len(agent.heard)
    agent.start()
    agent.until(lambda: any(json.loads(one.payload)["stage"] == "running" for one in agent.on(TOLD, mark)))
    assert told(agent)["frames"] > 20
    agent.until_said(READY, "bottle-500", mark)
    agent.until_inferred("cam-1", CANDIDATE, mark)


def test_an_agent_that_is_stopped_keeps_what_was_counted_last(prepared: Callable[[Write], RunningAgent]) -> None:
    agent = prepared(good)
    ask(agent, mode="canary", share=1.0, frames=100_000)
    until(agent, stage="running")
    mark = len(agent.heard)
    streams = ("cam-1", "cam-2")

    def answered() -> int:
        return sum(one["model"] == CANDIDATE for stream in streams for one in agent.detections(stream, mark))

    agent.until(lambda: answered() >= 20)
    known = answered()
    agent.stop()
    kept = json.loads((agent.folder / "state" / "control.json").read_text())
    counts = kept["lines"]["line-1"]["comparison"]["counts"]
    assert counts["answered"] >= known - len(streams), "but for what is answered just now"


def test_a_product_change_ends_it(prepared: Callable[[Write], RunningAgent]) -> None:
    agent = prepared(good)
    ask(agent, mode="canary", share=0.1)
    until(agent, stage="running")
    ask(agent, id="c2", mode="canary", share=0.5)
    until(agent, stage="running", id="c2")
    mark = agent.ready("17")
    assert until(agent, result="stopped")["reason"] == "superseded"
    ready = agent.until_said(READY, "17", mark)
    named = agent.heard.index(ready)
    agent.until_inferred("cam-1", "beta:n@1", named)
    assert {one["model"] for one in agent.detections("cam-1", named)} == {"beta:n@1"}
    agent.until(lambda: "another comparison was asked for" in run(agent, "models", "log", "line-1"))
