"""A running agent with a gateway: detectors, models that are none, and clients with rights of their own."""

import hashlib
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import cv2
import httpx
import numpy as np
import onnx
import pytest
import tomlkit

from agent.mqtt.blocking_client import connected
from agent.mqtt.endpoint.link_settings import LinkSettings
from support.brokers import Mosquitto
from support.running_agent import RunningAgent, model_entry
from support.task_answers import TASKS, write_task_model
from support.tensor_models import affine_model, open_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOKENS = {"mes": "m" * 40, "narrow": "n" * 40, "slow": "s" * 40, "single": "i" * 40}
DEADLINE_S = 60.0


class GatewayPlant:
    """An agent whose gateway is served, and what a client needs to ask it."""

    def __init__(self, agent: RunningAgent, trusted: str = "") -> None:
        self.agent = agent
        self._verify = ssl.create_default_context(cafile=trusted) if trusted else False
        agent.logged(r"event=web_serving port=[1-9]\d* grpc_port=[1-9]\d*")
        found = re.findall(r"event=web_serving port=([1-9]\d*) grpc_port=([1-9]\d*)", agent.log())
        self.port, self.grpc_port = map(int, found[-1])
        self.url = f"{'https' if trusted else 'http'}://127.0.0.1:{self.port}"

    def client(self, name: str = "mes") -> httpx.Client:
        headers = {"Authorization": f"Bearer {TOKENS[name]}"} if name else {}
        return httpx.Client(
            base_url=self.url, headers=headers, timeout=DEADLINE_S, trust_env=False, verify=self._verify
        )

    def until_open(self) -> None:
        """Wait until the gateway answers for a worker."""
        deadline_s = time.monotonic() + DEADLINE_S
        with self.client() as client:
            while client.get("/v2/health/ready").status_code != httpx.codes.OK:
                assert time.monotonic() < deadline_s, self.agent.log()[-3000:]
                time.sleep(0.05)

    def resident(self) -> dict[str, str]:
        """Return the state of each model in memory, by reference."""
        with self.client() as client:
            rows = client.post("/v2/repository/index", json={"ready": True}).json()
        return {f"{row['name']}@{row['version']}": row["state"] for row in rows}


@contextmanager
def gateway_plant(  # noqa: PLR0913 - each option is one way in which a plant differs
    mosquitto: Mosquitto,
    folder: Path,
    web: Mapping[str, object] = MappingProxyType({}),
    more: Sequence[Mapping[str, object]] = (),
    *,
    trusted: str = "",
    fps: float | None = None,
) -> Iterator[GatewayPlant]:
    """Run an agent with a gateway over HTTP and gRPC.

    `web` adds keys to its table, `more` clients; with TLS, `trusted` is the file of the server's authority. `fps` is
    the stream's, None: as it is.
    """

    def changes(settings: dict[str, Any]) -> None:
        entries = tomlkit.parse((folder / "models.toml").read_text()).unwrap()["model"]
        entries += [model_entry(folder, "gamma", "g"), _tensors_entry(folder), _entry(folder, open_model, "encoder")]
        entries += [_task_entry(folder, task) for task in TASKS[1:]]
        delta = model_entry(folder, "delta", "d")
        entries += [delta, {**delta, "version": "2"}]
        (folder / "models.toml").write_text(tomlkit.dumps({"model": entries}))
        for name, token in TOKENS.items():
            digest = hashlib.sha256(token.encode()).hexdigest()
            (folder / f"{name}.token").write_text(f"sha256:{digest}\n")
        rights: dict[str, dict[str, Any]] = {
            "mes": {"requests_per_s": 10_000, "max_inflight": 64},
            "narrow": {"models": ["alp*"], "requests_per_s": 10_000, "max_inflight": 8},
            "slow": {"requests_per_s": 1, "max_inflight": 8},
            "single": {"requests_per_s": 10_000, "max_inflight": 1},
        }
        clients: list[Mapping[str, object]] = [
            {"name": name, "token_file": f"{name}.token", **rights[name]} for name in TOKENS
        ]
        clients += more
        settings["web"] = {"bind": "127.0.0.1:0", "grpc_bind": "127.0.0.1:0", "client": clients, **web}
        settings["stream"] = settings["stream"][:1]
        if fps is not None:
            settings["stream"][0]["fps"] = fps
        del settings["line"]["line-2"]

    with connected(LinkSettings("127.0.0.1", mosquitto.port, "plc")) as peer:
        agent = RunningAgent(folder, mosquitto.url, peer, changes)
        agent.start()
        try:
            agent.until_said("status", "online")
            agent.ready("bottle-500")
            plant = GatewayPlant(agent, trusted)
            plant.until_open()
            yield plant
        finally:
            agent.kill()


@contextmanager
def own_gateway_plant(folders: pytest.TempPathFactory) -> Iterator[GatewayPlant]:
    """Run an agent with a gateway, and a broker of its own."""
    broker = Mosquitto(folders.mktemp("mosquitto"), persistence=False, more=())
    broker.start()
    try:
        with gateway_plant(broker, folders.mktemp("agent")) as made:
            yield made
    finally:
        broker.kill()


def jpeg(width: int = 128, height: int = 96, kind: str = ".jpg") -> bytes:
    """Return an encoded picture."""
    picture: NDArray[np.uint8] = np.full((height, width, 3), 90, np.uint8)
    done, content = cv2.imencode(kind, picture)
    assert done
    return content.tobytes()


def _tensors_entry(folder: Path) -> dict[str, Any]:
    return _entry(folder, affine_model, "affine")


def _task_entry(folder: Path, task: str) -> dict[str, Any]:
    """Make a model of a task that finds one object of the task's name, or that word; return its entry."""
    return _row(write_task_model(folder / f"{task}.onnx", task, (task, "other")), task)


def _entry(folder: Path, write: Callable[[], onnx.ModelProto], name: str) -> dict[str, Any]:
    path = folder / f"{name}.onnx"
    onnx.save(write(), path)
    return _row(path, name)


def _row(path: Path, name: str) -> dict[str, Any]:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"name": name, "variant": "n", "version": "1", "file": path.name, "sha256": sha256}
