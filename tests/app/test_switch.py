"""`changeover switch` against a running agent: what it prints, what it says in one line, and its exit codes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from support.brokers import Mosquitto
from support.running_agent import RunningAgent

Answer = subprocess.CompletedProcess[str]


def switch(agent: RunningAgent, *arguments: str, **environ: str) -> Answer:
    command = [sys.executable, "-m", "agent", "switch", *arguments, "--config", str(agent.config)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env=os.environ | environ, stdin=None
    )


def assert_one_line(answer: Answer, code: int, *words: str) -> None:
    assert answer.returncode == code, answer
    assert answer.stderr.count("\n") == 1, answer.stderr
    assert all(word in answer.stderr for word in words), answer.stderr


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_it_reports_changeovers_and_refusals_on_both_protocols(shared: RunningAgent, protocol: str) -> None:
    environ = {"CHANGEOVER_MQTT__PROTOCOL": protocol}

    answer = switch(shared, "line-1", "17", **environ)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.startswith("line-1: ready for 17\n  model    beta:n@1, was alpha:n@1\n  took ")
    assert "frames lost" in answer.stdout
    assert "cause    product 17" in answer.stdout

    again = switch(shared, "line-1", "17.0", **environ)
    assert again.stdout.startswith("line-1: ready for 17, as it was already\n")

    said = switch(shared, "line-1", "crate", "--json", **environ)
    told = json.loads(said.stdout)
    assert (told["result"], told["ready"], told["model"]) == ("done", "crate", "alpha:n@1")
    assert (told["switch"]["product"], told["switch"]["result"]) == ("crate", "switched")

    assert_one_line(switch(shared, "line-1", "mystery", **environ), 2, "rejected, unknown_product", "mystery")
    assert switch(shared, "line-1", "bottle-500", **environ).returncode == 0
    assert_one_line(
        switch(shared, "line-9", "17", **environ), 2, "no line line-9", "line-1, line-2", "nothing was sent"
    )


def test_an_operators_model_is_above_the_product_until_it_is_given_back(shared: RunningAgent) -> None:
    answer = switch(shared, "line-1", "beta", "--model")
    assert answer.stdout.startswith("line-1: beta serves; ready 0\n  model    beta:n@1, was alpha:n@1\n")
    assert_one_line(switch(shared, "line-1", "crate"), 2, "overridden", "an operator chose beta", "auto --model")
    given_back = switch(shared, "line-1", "auto", "--model")
    assert given_back.stdout.startswith("line-1: the choice is given back; ready ")
    shared.until_said("line/line-1/ready", "crate")
    assert_one_line(switch(shared, "line-1", "gamma", "--model"), 2, "rejected, unknown_model")

    mark = len(shared.heard)
    assert_one_line(switch(shared, "line-1", "beta:n@1"), 2, "--model", "nothing was sent")
    shared.send("ping-of-a-test", "")
    shared.until(lambda: shared.on("ping-of-a-test", mark))
    assert not shared.on("line/line-1/product/set", mark), "a forgotten option must not stop the line"


def test_a_camera_that_is_away_is_said_when_time_is_up(make_agent: Callable[..., RunningAgent]) -> None:
    def once(settings: dict[str, Any]) -> None:
        settings["stream"][0]["source"] = "none.avi"

    agent = make_agent(once)
    agent.until_said("status", "online")
    agent.until(lambda: agent.on("line/line-1/model/state"))
    answer = switch(agent, "line-1", "17", "--timeout", "8")
    assert_one_line(answer, 1, "not ready for 17 within 8 s", "ready 0", "cam-1 offline")


def test_a_device_that_stopped_or_never_spoke_is_said_at_once(running: RunningAgent, mosquitto: Mosquitto) -> None:
    nobody = switch(running, "line-1", "17", CHANGEOVER_DEVICE__ID="nobody")
    assert_one_line(nobody, 1, "the broker knows nothing of nobody")
    running.stop()
    assert_one_line(switch(running, "line-1", "17"), 1, "box is stopped; nothing was sent")
    running.start()
    running.until_said("line/line-1/ready", "bottle-500", len(running.heard))
    running.kill()
    assert_one_line(switch(running, "line-1", "17"), 1, "box is offline; nothing was sent")
    mosquitto.kill()
    assert_one_line(switch(running, "line-1", "17"), 1, "no link to 127.0.0.1")


def test_a_broker_that_refuses_says_so(
    make_agent: Callable[..., RunningAgent], make_mosquitto: Callable[..., Mosquitto]
) -> None:
    closed = make_mosquitto(more=("allow_anonymous false",))
    agent = make_agent()
    answer = switch(agent, "line-1", "17", CHANGEOVER_MQTT__URL=closed.url)
    assert_one_line(answer, 1, "no link to", "ot authori")
