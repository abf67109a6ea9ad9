"""The whole agent, from video to broker, through changeovers and through the death of each of its parts."""

import json
import signal
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from support.brokers import Mosquitto, retained
from support.running_agent import BASE, PRODUCTS, RunningAgent, shared_memory

from agent.mqtt.blocking_client import connected
from agent.mqtt.endpoint.link_settings import LinkSettings


def assert_lawful(agent: RunningAgent) -> None:
    """Every detection has its model's labels, in sequence; and none contradicts the `ready` that came before it."""
    ready = {"line-1": "0", "line-2": "0"}
    last: dict[tuple[str, str], int] = {}
    for arrival in agent.heard:
        parts = arrival.topic.removeprefix(f"{BASE}/").split("/")
        if parts[-1] == "ready":
            ready[parts[1]] = arrival.payload.decode()
        if parts[-1] != "detections":
            continue
        one = json.loads(arrival.payload)
        assert all(found["label"][0] == one["model"][0] for found in one["objects"]), one
        if ready[one["line"]] in PRODUCTS:
            assert one["model"].startswith(PRODUCTS[ready[one["line"]]]), (ready, one)
        key = (one["boot"], one["stream"])
        assert one["seq"] == last.get(key, one["seq"] - 1) + 1, one
        last[key] = one["seq"]


def test_products_change_over_and_nothing_is_lost_or_wrongly_named(shared: RunningAgent) -> None:
    for product in ["17", "bottle-500", "17", "crate"]:
        mark = shared.ready(product)
        wanted = PRODUCTS[product]
        shared.until_inferred("cam-2", f"{wanted}:n@1", mark)
    assert_lawful(shared)
    reports = [json.loads(one.payload) for one in shared.on("line/line-1/switch")]
    assert [(one["product"], one["result"]) for one in reports[-4:]] == [
        ("17", "switched"),
        ("bottle-500", "switched"),
        ("17", "switched"),
        ("crate", "switched"),
    ]
    numbers = [one["frame"] for one in shared.detections("cam-1")]
    assert numbers == sorted(set(numbers))


def test_an_unknown_product_is_refused_with_ready_zero(shared: RunningAgent) -> None:
    mark = len(shared.heard)
    shared.send("line/line-1/product/set", json.dumps({"value": "mystery", "id": "q7"}))
    shared.until(lambda: any(b'"q7"' in one.payload for one in shared.on("ack", mark)))
    answer = next(json.loads(one.payload) for one in shared.on("ack", mark) if b'"q7"' in one.payload)
    assert (answer["result"], answer["reason"]) == ("rejected", "unknown_product")
    assert shared.on("line/line-1/ready", mark)[0].payload == b"0"
    shared.ready("bottle-500")
    assert_lawful(shared)


def test_a_killed_worker_is_zero_first_and_serves_again(shared: RunningAgent) -> None:
    mark = len(shared.heard)
    shared.child("inference").kill()
    shared.until_said("line/line-1/ready", "0", mark)
    shared.until_said("line/line-1/ready", "bottle-500", mark)
    shared.until_said("line/line-2/ready", "open", mark)
    after = len(shared.heard)
    shared.until(lambda: shared.detections("cam-3", after))
    assert not shared.on("status", mark), "control never left the broker"
    assert_lawful(shared)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_dead_or_frozen_camera_process_is_replaced_and_no_other_stream_notices(
    shared: RunningAgent, number: signal.Signals
) -> None:
    mark = len(shared.heard)
    shared.camera("cam-1").send_signal(number)
    shared.until_said("line/line-1/ready", "0", mark)
    shared.until_said("stream/cam-1/status", "online", mark)
    shared.until_said("line/line-1/ready", "bottle-500", mark)
    assert not shared.on("stream/cam-3/status", mark)
    assert not shared.on("line/line-2/ready", mark)
    frames = [one["frame"] for one in shared.detections("cam-1")]
    assert frames == sorted(set(frames)), "frames are counted on through the restart"
    assert_lawful(shared)


def test_sigterm_leaves_the_truth_behind_and_nothing_else(running: RunningAgent, mosquitto: Mosquitto) -> None:
    children = [running.child("inference"), *(running.child("capture", number) for number in range(3))]
    theirs = shared_memory([psutil.Process(running.process.pid), *children])
    assert running.stop() == 0
    assert not [child for child in children if child.is_running()]
    assert not [path for path in theirs if path.exists()]
    left = retained(mosquitto.url, f"{BASE}/#")
    assert left[f"{BASE}/status"] == b"stopped"
    assert left[f"{BASE}/line/line-1/ready"] == b"0"
    assert left[f"{BASE}/line/line-2/ready"] == b"0"


def test_a_broker_that_comes_back_empty_is_told_everything_again(running: RunningAgent, mosquitto: Mosquitto) -> None:
    mosquitto.restart()
    mark = len(running.heard)
    running.until_said("line/line-1/ready", "bottle-500", mark)
    running.until_said("status", "online", mark)
    running.ready("17")


def test_the_last_product_holds_after_a_restart(running: RunningAgent) -> None:
    running.ready("17")
    running.stop()
    mark = len(running.heard)
    running.start()
    running.until_said("line/line-1/ready", "17", mark)
    started = [one.payload for one in running.on("line/line-1/ready", mark)]
    assert started[0] == b"0"
    running.until(lambda: running.detections("cam-1", mark))


def test_what_an_earlier_configuration_left_is_cleared(
    make_agent: Callable[..., RunningAgent], mosquitto: Mosquitto
) -> None:
    with connected(LinkSettings("127.0.0.1", mosquitto.port, "past")) as past:
        for topic in ("line/gone/ready", "line/gone/phase", "line/gone/state", "stream/gone/status"):
            past.publish(f"{BASE}/{topic}", "old", retain=True)
    agent = make_agent()
    agent.until(lambda: any(one.payload == b"" for one in agent.on("line/gone/ready")))
    agent.until(lambda: any(one.payload == b"" for one in agent.on("stream/gone/status")))


def test_a_file_that_ends_takes_ready_away(make_agent: Callable[..., RunningAgent]) -> None:
    def once(settings: dict[str, Any]) -> None:
        settings["stream"][2]["loop"] = False

    agent = make_agent(once)
    agent.until_said("stream/cam-3/status", "ended")
    agent.send("line/line-2/product/set", "open")
    agent.until(lambda: agent.on("line/line-2/switch"))
    assert b"open" not in {one.payload for one in agent.on("line/line-2/ready")}


def test_a_folder_without_pacing_loses_no_frame(make_agent: Callable[..., RunningAgent]) -> None:
    def unpaced(settings: dict[str, Any]) -> None:
        settings["stream"][2] |= {"fps": 0, "loop": False}

    agent = make_agent(unpaced)
    agent.until_said("stream/cam-3/status", "ended")
    agent.until(lambda: [one["frame"] for one in agent.detections("cam-3")] == list(range(20)))
