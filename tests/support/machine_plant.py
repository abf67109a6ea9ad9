"""A plant beside a machine: a broker outside of it, and the agent's configuration inside."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.mqtt.blocking_client import connected
from agent.mqtt.endpoint.link_settings import LinkSettings
from support.brokers import Mosquitto
from support.machine import Machine
from support.running_agent import RunningAgent


@contextmanager
def plant_beside(machine: Machine, folder: Path) -> Iterator[RunningAgent]:
    """Give the plant outside: a broker, and what the agent says there. Its configuration lies in the machine."""
    broker = Mosquitto(folder, persistence=False, more=())
    broker.start()
    configuration = machine.root / "etc" / "changeover"
    configuration.mkdir(mode=0o755)
    (configuration / "agent.log").write_text("see the machine's journal\n")
    try:
        with connected(LinkSettings("127.0.0.1", broker.port, "plc")) as peer:
            yield RunningAgent(configuration, broker.url, peer, _as_a_service)
    finally:
        broker.kill()


def _as_a_service(settings: dict[str, Any]) -> None:
    settings["device"] = {"id": "box", "memory_budget": "400MiB"}
    settings["catalog"] = {"file": "models.toml"}
