"""A running agent says what its models really run on, and refuses a processor that does not start."""

import json
from collections.abc import Callable
from typing import Any

from support.running_agent import RunningAgent

Settings = dict[str, Any]


def test_the_processor_of_each_resident_model_is_told(running: RunningAgent) -> None:
    running.until(lambda: len(json.loads(running.value("meta") or "{}").get("processors", {})) > 1)
    meta = json.loads(running.value("meta") or "{}")
    assert meta["compute"] == "auto"
    for processor in meta["processors"].values():
        assert processor["processor"] == "cpu"
        assert processor["runtime"] in {"openvino", "onnxruntime"}
        assert processor["version"]
    mark = len(running.heard)
    running.until(lambda: running.on("health", mark))
    assert json.loads(running.value("health") or "{}")["processors"] == meta["processors"]
    cache = json.loads(running.value("cache") or "{}")
    assert {one["model"]: one["processor"] for one in cache["models"] if one["state"] == "active"} == dict.fromkeys(
        meta["processors"], "cpu"
    )
    noted = json.loads((running.folder / "state" / "cache" / "processors.json").read_text())
    assert noted == meta["processors"]


def test_a_gpu_that_is_named_and_does_not_start_serves_nothing_on_the_cpu(
    make_agent: Callable[..., RunningAgent],
) -> None:
    def on_a_gpu(settings: Settings) -> None:
        settings["device"]["compute"] = "CUDA:99"  # which no box has

    agent = make_agent(on_a_gpu)
    agent.until_said("status", "online")
    mark = len(agent.heard)
    agent.send("line/line-1/product/set", "bottle-500")
    agent.until(lambda: agent.on("line/line-1/switch", mark))
    report = json.loads(agent.value("line/line-1/switch") or "{}")
    assert (report["result"], report["reason"]) == ("failed", "load_failed")
    assert "compute cuda:99 did not start: " in report["detail"]
    assert agent.value("line/line-1/ready") == "0"
    meta = json.loads(agent.value("meta") or "{}")
    assert (meta["compute"], meta["processors"]) == ("cuda:99", {})
