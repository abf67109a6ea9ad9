"""A whole agent as a user runs it: its own process tree, a real broker, videos, models whose labels betray them."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import tomlkit

from agent.bench.plant.children import runs
from agent.mqtt.blocking_client import Arrival, BlockingClient
from support.brokers import retained
from support.tiny_models import write_tiny_model

BASE = "changeover/v1/box"
DEADLINE_S = 60.0
FPS = 10
PRODUCTS = {"bottle-500": "alpha", "17": "beta", "crate": "alpha"}


class RunningAgent:
    """One agent, started and stopped by a test; everything that it published is in `heard`, in order."""

    def __init__(self, folder: Path, url: str, peer: BlockingClient, changes: Callable[[dict[str, Any]], None]) -> None:
        self.folder = folder
        self.heard: list[Arrival] = []
        self._peer = peer
        self._url = url
        self._log = folder / "agent.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] = {}
        self.executable = sys.executable
        folder.mkdir(exist_ok=True)
        self.config = folder / "changeover.toml"
        settings = _write_plant(folder, url)
        changes(settings)
        self.config.write_text(tomlkit.dumps(settings))
        peer.subscribe([f"{BASE}/#"], timeout_s=DEADLINE_S)

    def start(self) -> None:
        with self._log.open("ab") as log:
            command = [self.executable, "-m", "agent", "run", "--config", str(self.config)]
            environment = {**os.environ, **self.environment}
            self._process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL, env=environment)

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None
        return self._process

    def logged(self, pattern: str) -> re.Match[str]:
        """Wait for a line that `pattern` is found in."""
        self.until(lambda: re.search(pattern, self.log()))
        found = re.search(pattern, self.log())
        assert found is not None
        return found

    def child(self, module: str, number: int = 0) -> psutil.Process:
        """Return a child by the module that it runs."""
        found = [child for child in psutil.Process(self.process.pid).children() if runs(child, module)]
        return sorted(found, key=lambda child: child.create_time())[number]

    def camera(self, stream: str) -> psutil.Process:
        """Return the camera process of a stream, as the log named it last."""
        pids = re.findall(rf"event=child_up child='camera {stream}' pid=(\d+)", self.log())
        return psutil.Process(int(pids[-1]))

    def send(self, topic: str, payload: str, *, retain: bool = False) -> None:
        self._peer.publish(f"{BASE}/{topic}", payload, retain=retain, timeout_s=DEADLINE_S)

    def send_at_once(self, *messages: tuple[str, str]) -> None:
        """Send without waiting in between."""
        for topic, payload in messages:
            self._peer.publish(f"{BASE}/{topic}", payload, qos=0)

    def until(self, is_done: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
        limit_s = time.monotonic() + deadline_s
        while not is_done():
            assert time.monotonic() < limit_s, f"not within {deadline_s} s\n{self.log()[-3000:]}"
            arrival = self._peer.receive(0.05)
            while arrival is not None:
                self.heard.append(arrival)
                arrival = self._peer.receive(0)

    def until_said(self, topic: str, value: str, since: int = 0, deadline_s: float = DEADLINE_S) -> Arrival:
        """Wait for a payload on a topic of the device, among what came after the first `since` messages."""
        found: list[Arrival] = []

        def is_said() -> bool:
            found.extend(one for one in self.on(topic, since) if one.payload == value.encode())
            return bool(found)

        self.until(is_said, deadline_s)
        return found[0]

    def on(self, topic: str, since: int = 0) -> list[Arrival]:
        return [one for one in self.heard[since:] if one.topic == f"{BASE}/{topic}"]

    def value(self, topic: str) -> str | None:
        """Return the newest payload of a topic, as far as it was heard."""
        return next((one.payload.decode() for one in reversed(self.on(topic))), None)

    def retained(self, topic: str) -> str | None:
        """Ask the broker what it retains on a topic of the device."""
        payload = retained(self._url, f"{BASE}/{topic}").get(f"{BASE}/{topic}")
        return payload.decode() if payload is not None else None

    def answers(self, id_: str, since: int = 0) -> list[dict[str, Any]]:
        """Return the acks of one id."""
        said = (json.loads(one.payload) for one in self.on("ack", since))
        return [one for one in said if one["id"] == id_]

    def log(self) -> str:
        """Return what it has logged so far."""
        return self._log.read_text() if self._log.exists() else ""

    def detections(self, stream: str, since: int = 0) -> list[dict[str, Any]]:
        return [json.loads(one.payload) for one in self.on(f"stream/{stream}/detections", since)]

    def until_inferred(self, stream: str, model: str, since: int = 0) -> None:
        """Wait for a stream's first detections by a model."""
        self.until(lambda: any(one["model"] == model for one in self.detections(stream, since)))

    def ready(self, product: str, line: str = "line-1") -> int:
        """Ask for a product and wait for `ready`; return how much had been heard before."""
        mark = len(self.heard)
        self.send(f"line/{line}/product/set", product)
        self.until_said(f"line/{line}/ready", product, mark)
        return mark

    def begin_anew(self) -> None:
        """Bring both lines to their first products, whatever an earlier test asked of them."""
        first = {"line-1": "bottle-500", "line-2": "open"}
        self.send("line/line-1/model/set", "auto")
        for line, product in first.items():
            self.send(f"line/{line}/product/set", product)
        self.until(lambda: all(self.value(f"line/{line}/ready") == product for line, product in first.items()))

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            children = psutil.Process(self._process.pid).children(recursive=True)
            self._process.kill()
            self._process.wait(DEADLINE_S)
            for child in children:
                with suppress(psutil.NoSuchProcess):
                    child.resume()  # one that a test stopped ends by itself then


def one_stream(settings: dict[str, Any]) -> None:
    """Leave line-1 and its first stream, where a test is about no more."""
    settings["stream"] = settings["stream"][:1]
    del settings["line"]["line-2"]


def shared_memory(processes: Iterable[psutil.Process]) -> set[Path]:
    """Return what processes have open or mapped of what has a name in /dev/shm."""
    found: set[str] = set()
    for process in processes:
        found.update(file.path for file in process.open_files())
        found.update(re.findall(r"/dev/shm/\S+", Path(f"/proc/{process.pid}/maps").read_text()))
    return {Path(file) for file in found if file.startswith("/dev/shm/") and Path(file).exists()}


def _write_plant(folder: Path, url: str) -> dict[str, Any]:
    models = [model_entry(folder, "alpha", "a"), model_entry(folder, "beta", "b")]
    (folder / "models.toml").write_text(tomlkit.dumps({"model": models}))
    for name in ("one", "two", "three"):
        _video(folder / f"{name}.avi")
    streams = [
        {"id": f"cam-{number}", "line": line, "source": f"{name}.avi", "fps": FPS, "loop": True}
        for number, (name, line) in enumerate([("one", "line-1"), ("two", "line-1"), ("three", "line-2")], 1)
    ]
    return {
        "device": {"id": "box", "state_dir": "state", "memory_budget": "400MiB", "preload": False},
        "mqtt": {"url": url},
        "catalog": {"file": "models.toml", "store_dir": "store"},
        "http": {"bind": ""},
        "stream": streams,
        "line": {
            "line-1": {"default": "alpha", "products": dict(PRODUCTS)},
            "line-2": {"default": "beta", "products": {"open": "beta"}},
        },
    }


def model_entry(folder: Path, name: str, letter: str, variant: str = "n") -> dict[str, Any]:
    """Make a model whose labels begin with its own letter; return its entry in the catalog."""
    path = write_tiny_model(folder / f"{name}-{variant}.onnx", names=(f"{letter}-good", f"{letter}-bad"))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"name": name, "variant": variant, "version": "1", "file": path.name, "sha256": sha256}


def _video(path: Path) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (128, 96))
    for shade in range(20):
        writer.write(np.full((96, 128, 3), shade * 10, np.uint8))
    writer.release()
