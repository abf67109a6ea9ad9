"""An order whose builder, worker and agent are killed while its model is compiled: it goes on, and no frame is lost."""

import json
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
from app.test_orders import JOB, PATIENCE_S, order, switches, told, until_state
from app.test_orders_killed import another
from support.file_server import FileServer
from support.running_agent import RunningAgent, one_stream

from agent.bench.plant.children import runs

BUILDER = "agent.inference.preparing.build_process"
WORKER = "agent.inference.process"


def found(agent: RunningAgent, module: str, sent: signal.Signals) -> psutil.Process:
    """Wait until a process of the agent runs a module, send it a signal at once, and return it."""
    hit: list[psutil.Process] = []

    def is_sent() -> bool:
        with suppress(psutil.NoSuchProcess):
            for one in psutil.Process(agent.process.pid).children(recursive=True):
                if runs(one, module):
                    one.send_signal(sent)
                    hit.append(one)
                    return True
        return False

    agent.until(is_sent, PATIENCE_S)
    return hit[0]


def ends_alone(agent: RunningAgent, builder: psutil.Process) -> None:
    """Let a stopped builder go on, and wait until it has ended, because its worker has."""
    with suppress(psutil.NoSuchProcess):
        builder.resume()
    agent.until(lambda: not runs(builder, BUILDER), PATIENCE_S)


def test_it_goes_on(make_agent: Callable[..., RunningAgent], server: FileServer, tmp_path: Path) -> None:
    """A builder that is stopped holds the moment for whom is killed next. One that goes on without its worker ends."""
    agent = make_agent(one_stream)
    agent.until_said("status", "online")
    agent.ready("bottle-500")
    agent.until(lambda: "event=prepared model=" in agent.log(), PATIENCE_S)  # so that the next builder is the order's
    order(agent, another(server, tmp_path, 2), activate="now")
    found(agent, BUILDER, signal.SIGKILL)
    waiting = until_state(agent, "waiting")
    assert waiting["reason"] == "no_memory"
    assert "the process that prepares ended with -9" in waiting["detail"]
    assert "tried again in 60 s" in waiting["detail"]
    assert agent.value("line/line-1/ready") == "bottle-500"
    until_state(agent, "preparing")
    stopped = found(agent, BUILDER, signal.SIGSTOP)
    mark = len(agent.heard)
    found(agent, WORKER, signal.SIGKILL)
    ends_alone(agent, stopped)
    agent.until_said("line/line-1/ready", "bottle-500", mark, deadline_s=PATIENCE_S)
    stopped = found(agent, BUILDER, signal.SIGSTOP)
    assert told(agent)[-1] == "preparing"
    agent.kill()
    ends_alone(agent, stopped)
    agent.start()
    until_state(agent, "done")
    assert "failed" not in told(agent)
    assert json.loads(agent.value(JOB) or "")["models"] == ["alpha:n@2"]
    agent.until_said("line/line-1/model/state", "alpha:n@2", deadline_s=PATIENCE_S)
    assert not any(one["frames_lost"] for one in switches(agent))
    assert "event=prepared model=alpha:n@2 result=prepared" in agent.log()
