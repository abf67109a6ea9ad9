"""docs/mqtt.md is true: each of its examples is run as it stands, and brings what the page shows."""

import hashlib
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import psutil
import pytest
import tomlkit
from support.brokers import Mosquitto
from support.page import Step, matches, steps, toml
from support.running_agent import RunningAgent
from support.tiny_models import write_tiny_model

from agent.control.inputs.routes import Kind
from agent.messages.errors import Reason
from agent.messages.topics import Topics

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "mqtt.md"
DEADLINE_S = 60.0
START = "changeover/v1/box-7/"
MODELS = {("cap-check", "n", "2"), ("cap-check", "n", "3"), ("cap-check", "s", "3"), ("label-check", "n", "1")}


class Listener:
    """The page's own `mosquitto_sub`, left running; `lines` is what it printed."""

    def __init__(self, command: str, environ: dict[str, str]) -> None:
        self.lines: list[str] = []
        # `exec`: ending the shell ends what it runs
        self._process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"], stdout=subprocess.PIPE, text=True, errors="replace", env=environ
        )
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def until_shown(self, shown: tuple[str, ...], since: int) -> None:
        """Wait until lines as those of the page came, in their order."""
        limit_s = time.monotonic() + DEADLINE_S
        left, place = list(shown), since
        while left:
            while place < len(self.lines):
                if left and matches(left[0], self.lines[place]):
                    left.pop(0)
                place += 1
            seen = [
                line[:200] for line in self.lines[since:] if not re.search(r"/(detections|live|health|ping) ", line)
            ]
            assert time.monotonic() < limit_s, f"not seen: {left[:1]} in\n" + "\n".join(seen)
            time.sleep(0.01)

    def close(self) -> None:
        self._process.kill()
        self._process.wait(20)
        self._thread.join(20)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            for line in stdout:
                self.lines.append(line.rstrip("\n"))


class Reader:
    """Does what the page says, in its order."""

    def __init__(self, agent: RunningAgent, broker: Mosquitto) -> None:
        self._agent = agent
        self._broker = broker
        self._listener: Listener | None = None
        folder = agent.folder / "home"
        folder.mkdir()
        for tool in ("mosquitto_pub", "mosquitto_sub", "mosquitto_rr"):
            (folder / tool).write_text(f"-h 127.0.0.1\n-p {broker.port}\n")
        self._environ = os.environ | {"XDG_CONFIG_HOME": str(folder)}

    def do(self, step: Step) -> None:
        if "mosquitto_sub" in step.command and "-C" not in step.command:
            self._listener = Listener(step.command.strip(), self._environ)
            self._listener.until_shown((f"{START}status online",), 0)
        elif step.event or "mosquitto_pub" in step.command:
            assert self._listener is not None, "the page begins by listening"
            mark = len(self._listener.lines)
            if step.event:
                self._silence()
            else:
                assert self._run(step.command) == ""
            self._listener.until_shown(step.shown, mark)
        else:
            printed = self._run(step.command).splitlines()
            assert len(printed) == len(step.shown), printed
            for shown, said in zip(step.shown, printed, strict=True):
                assert matches(shown, said), f"{said}\nis not\n{shown}"

    def close(self) -> None:
        if self._listener is not None:
            self._listener.close()

    def _run(self, command: str) -> str:
        answer = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", command],
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
            env=self._environ,
        )
        assert answer.returncode == 0, (command, answer.stderr)
        return answer.stdout

    def _silence(self) -> None:
        """Stop the broker for so long that the agent gives its connection up."""
        before = self._connections()
        self._broker.freeze()
        limit_s = time.monotonic() + DEADLINE_S
        while before & self._connections():
            assert time.monotonic() < limit_s, "the agent has not noticed"
            time.sleep(0.05)
        self._broker.thaw()

    def _connections(self) -> set[int]:
        found = psutil.Process(self._agent.process.pid).net_connections("tcp")
        return {one.laddr.port for one in found if one.raddr[1:] == (self._broker.port,)}


@pytest.fixture
def reader(make_agent: Callable[..., RunningAgent], mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Reader]:
    """Give the device that the page describes, running."""

    def as_the_page_says(settings: dict[str, Any]) -> None:
        usual = settings["stream"]
        settings |= tomlkit.parse(toml(PAGE)).unwrap()
        settings["device"] |= {"state_dir": "state", "memory_budget": "400MiB"}
        settings["mqtt"]["keepalive_s"] = 5
        for stream, with_video in zip(settings["stream"], usual, strict=False):
            stream |= {"source": with_video["source"], "fps": 10, "loop": True}
        models = [model(tmp_path, *one) for one in sorted(MODELS)]
        (tmp_path / "models.toml").write_text(tomlkit.dumps({"model": models}))

    reader = Reader(make_agent(as_the_page_says), mosquitto)
    yield reader
    reader.close()


def model(folder: Path, name: str, variant: str, version: str) -> dict[str, Any]:
    labels = (name.removesuffix("-check"), f"no-{name.removesuffix('-check')}")
    path = write_tiny_model(folder / f"{name}-{variant}-{version}.onnx", names=labels)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"name": name, "variant": variant, "version": version, "file": path.name, "sha256": sha256}


def test_each_example_brings_what_the_page_shows(reader: Reader) -> None:
    told = steps(PAGE)
    for step in told:
        reader.do(step)
    assert len(told) > 30


def test_no_topic_is_without_an_example() -> None:
    run = "\n".join("\n".join([step.command, *step.shown]) for step in steps(PAGE))
    for kind in get_args(Kind):
        wanted = rf"mosquitto_pub .*{START}(line/[\w-]+/)?{kind}"
        assert re.search(wanted, run), f"{kind} is never published"
    names = {
        owner: get_args(get_type_hints(method)["name"])
        for owner, method in {"": Topics.of_device, "line/": Topics.of_line, "stream/": Topics.of_stream}.items()
    }
    for owner, all_names in names.items():
        for name in all_names:
            assert re.search(rf"{START}{owner}([\w-]+/)?{name}\b", run), f"{owner}...{name} is never shown"


def test_each_reason_is_explained() -> None:
    explained = re.findall(r"^\| `(\w+)` \|", PAGE.read_text().partition("# Answers")[2], re.MULTILINE)
    assert explained == list(get_args(Reason))
