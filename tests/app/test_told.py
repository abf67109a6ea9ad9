"""Words of a running agent to people: refused commands, more in the log for a while, a file that ended."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from support.brokers import free_port
from support.running_agent import RunningAgent

from agent.app.configuration.model_changes import after_adding, require_unused
from agent.doctor.host import try_binds
from agent.messages.errors import MistakeError
from agent.messages.references import ModelReference
from agent.models.catalog import Catalog
from agent.settings import load


def test_a_refused_command_is_in_the_journal_in_a_topic_and_in_watch(shared: RunningAgent) -> None:
    mark = len(shared.heard)
    shared.send("line/line-9/product/set", "17")

    def told() -> list[dict[str, Any]]:
        found = shared.on("refused", mark)
        return json.loads(found[-1].payload) if found else []

    shared.until(told)
    last = told()[-1]
    assert (last["topic"], last["reason"], last["more"]) == ("line/line-9/product/set", "unknown_line", 0)
    assert "known lines: line-1, line-2" in last["detail"]
    shared.logged(r"level=WARNING .*event=command_refused topic='line/line-9/product/set' reason=unknown_line")
    command = [sys.executable, "-m", "agent", "watch", "--config", str(shared.config)]
    view = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert "unknown_line" in view, "also of who looks later"


def test_the_log_says_more_for_a_while_and_goes_back_by_itself(shared: RunningAgent) -> None:
    assert "event=received" not in shared.log()
    shared.send("cmd/log", json.dumps({"id": "l1", "level": "debug"}))
    shared.until(lambda: shared.answers("l1"))
    (answer,) = shared.answers("l1")
    assert (answer["result"], answer["detail"]) == ("done", "debug for 600 s")
    shared.send("line/line-1/product/set", "bottle-500")
    shared.logged(r"level=DEBUG .*event=received topic='changeover/v1/box/line/line-1/product/set' bytes=10")
    shared.send("cmd/log", json.dumps({"id": "l2", "level": "debug", "for_s": 0.5}))
    shared.logged(r"event=log_level level=info why='its time is over'")


def test_a_file_that_ended_is_an_alert_that_names_loop(make_agent: Callable[..., RunningAgent]) -> None:
    def once(settings: dict[str, Any]) -> None:
        settings["stream"][2]["loop"] = False

    agent = make_agent(once)

    def named() -> list[str]:
        said = agent.value("alerts")
        return [one["detail"] for one in json.loads(said or "[]") if one["stream"] == "cam-3"]

    agent.until(lambda: any("`loop = true`" in detail for detail in named()))


def test_commands_beside_a_running_agent_ask_it_what_it_has(make_agent: Callable[..., RunningAgent]) -> None:
    def served(settings: dict[str, Any]) -> None:
        settings["http"]["bind"] = f"127.0.0.1:{free_port()}"

    agent = make_agent(served)
    agent.until_said("status", "online")
    agent.ready("bottle-500")
    settings = load(agent.config, {})
    with pytest.raises(MistakeError, match=r"product 'bottle-500' of line-1.*, the running agent \(active\)"):
        require_unused(settings, ModelReference("alpha", "n", "1"))
    (version, _) = Catalog.load(settings.catalog.file).versions
    assert after_adding(settings, version).startswith("the running agent does not know it yet, and needs a reload")
    (finding,) = try_binds(settings)
    assert str(finding) == f"ok    http.bind: {settings.http.bind} is served by the running agent"
    other = settings.model_copy(update={"device": settings.device.model_copy(update={"id": "another"})})
    (finding,) = try_binds(other)
    assert f"in use by {agent_name(agent)} (process {agent.process.pid})" in str(finding)


def agent_name(agent: RunningAgent) -> str:
    return psutil.Process(agent.process.pid).name()
