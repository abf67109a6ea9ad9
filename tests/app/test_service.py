"""A running agent as seen by the service manager, a scraper and an operator's SIGHUP."""

import http.client
import json
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import tomlkit
from prometheus_client.parser import text_string_to_metric_families as parse
from support.brokers import Mosquitto
from support.running_agent import DEADLINE_S, RunningAgent

from agent.mqtt.blocking_client import connected
from agent.mqtt.endpoint.link_settings import LinkSettings

Make = Callable[..., RunningAgent]


class Manager:
    """The service manager's end of $NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.heard: list[str] = []
        self.environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "600000"}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def has(self, start: str, since: int = 0) -> bool:
        return any(one.startswith(start) for one in self.heard[since:])

    def close(self) -> None:
        self.send("")
        self._thread.join(DEADLINE_S)
        self._socket.close()

    def send(self, text: str) -> None:
        """Send a word to ourselves, behind all that was sent before."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.sendto(text.encode(), self.environment["NOTIFY_SOCKET"])

    def _listen(self) -> None:
        while text := self._socket.recv(4096):
            self.heard.append(text.decode())


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


@pytest.fixture
def make(mosquitto: Mosquitto, tmp_path: Path, manager: Manager) -> Iterator[Make]:
    """`make(changes, url)` starts an agent whose service manager listens."""
    made: list[RunningAgent] = []

    with connected(LinkSettings("127.0.0.1", mosquitto.port, "plc")) as peer:

        def start(changes: Callable[[dict[str, Any]], None] = lambda _settings: None, url: str = "") -> RunningAgent:
            agent = RunningAgent(tmp_path, url or mosquitto.url, peer, changes)
            agent.environment = manager.environment
            made.append(agent)
            agent.start()
            if not url:
                agent.until_said("status", "online")
            return agent

        yield start
        for agent in made:
            agent.kill()


def wait(is_done: Callable[[], object]) -> None:
    limit_s = time.monotonic() + DEADLINE_S
    while not is_done():
        assert time.monotonic() < limit_s
        time.sleep(0.01)


def rewrite(agent: RunningAgent, change: Callable[[dict[str, Any]], None]) -> None:
    settings = tomlkit.parse(agent.config.read_text()).unwrap()
    change(settings)
    agent.config.write_text(tomlkit.dumps(settings))


def frames(agent: RunningAgent, stream: str) -> set[int]:
    kept = [json.loads(one.payload) for one in agent.on(f"stream/{stream}/replay")]
    return {one["frame"] for one in [*agent.detections(stream), *kept]}


def ask(agent: RunningAgent, path: str) -> tuple[int, str]:
    port = int(agent.logged(r"event=http_serving port=(\d+)")[1])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_ready_waits_for_loops_and_neither_for_a_broker_nor_for_a_frame(make: Make, manager: Manager) -> None:
    def dark(settings: dict[str, Any]) -> None:
        for stream in settings["stream"]:
            stream["source"] = "no-such-file.avi"

    agent = make(dark, "mqtt://127.0.0.1:9")
    wait(lambda: manager.has("READY=1"))
    wait(lambda: manager.has("STATUS=0 of 2 lines ready, 0 of 3 streams online, broker away"))
    wait(lambda: manager.heard.count("WATCHDOG=1") > 3)
    agent.logged("event=service_ready missing=''")
    assert all(f"event=child_up child={child!r}" in agent.log() for child in ("worker", "camera cam-1", "camera cam-3"))


def test_status_watchdog_and_the_end(make: Make, manager: Manager) -> None:
    agent = make()
    agent.ready("bottle-500")
    wait(lambda: manager.has("STATUS=1 of 2 lines ready, 3 of 3 streams online, broker connected"))
    agent.process.send_signal(signal.SIGSTOP)
    wait(lambda: psutil.Process(agent.process.pid).status() == psutil.STATUS_STOPPED)
    manager.send("frozen")
    wait(lambda: "frozen" in manager.heard)
    frozen = manager.heard.index("frozen") + 1
    time.sleep(2.0)  # more than three times as long as it may be silent
    assert manager.heard[frozen:] == [], "a frozen loop gives no sign of life"
    agent.process.send_signal(signal.SIGCONT)
    wait(lambda: manager.has("WATCHDOG=1", frozen))
    assert agent.stop() == 0
    assert manager.has("STOPPING=1")


def test_children_know_nothing_of_the_service_manager(make: Make, manager: Manager) -> None:
    agent = make()
    wait(lambda: manager.has("READY=1"))
    for module in ("inference", "capture"):
        assert "NOTIFY_SOCKET" not in agent.child(module).environ()


def test_sighup_takes_up_a_changed_product_table_and_loses_no_frame(make: Make, manager: Manager) -> None:
    def unpaced(settings: dict[str, Any]) -> None:
        settings["stream"][0] |= {"fps": 0}

    agent = make(unpaced)
    agent.ready("bottle-500")
    wait(lambda: manager.has("READY=1"))
    agent.until(lambda: len(agent.detections("cam-1")) > 20)

    def change(settings: dict[str, Any]) -> None:
        settings["line"]["line-1"]["products"]["keg-30"] = "beta"
        settings["stream"][1]["fps"] = 3
        settings["mqtt"]["keepalive_s"] = 20

    rewrite(agent, change)
    mark, said = len(agent.heard), len(manager.heard)
    began_s = time.monotonic()
    agent.process.send_signal(signal.SIGHUP)
    wait(lambda: manager.has("READY=1", said))
    print(f"SIGHUP to READY: {(time.monotonic() - began_s) * 1000:.0f} ms")  # noqa: T201 - a figure for -s
    order = [one.partition("\n")[0] for one in manager.heard[said:] if one.startswith(("RELOADING", "READY"))]
    assert order == ["RELOADING=1", "READY=1"]
    note = "; reload: a change of mqtt.keepalive_s, stream cam-2.fps needs a restart"
    wait(lambda: any(one.startswith("STATUS=") and one.endswith(note) for one in manager.heard))
    agent.ready("keg-30")
    agent.until_inferred("cam-1", "beta:n@1", mark)
    last = agent.detections("cam-1")[-1]["frame"]
    # What found no room on the wire at once comes later, as replay.
    agent.until(lambda: frames(agent, "cam-1") >= set(range(min(frames(agent, "cam-1")), last)))
    assert not agent.on("status", mark)
    assert [one.payload for one in agent.on("line/line-1/ready", mark)] == [b"0", b"keg-30"]


def test_sighup_with_a_mistake_keeps_what_runs_and_says_what_is_wrong(make: Make, manager: Manager) -> None:
    agent = make()
    agent.ready("bottle-500")
    wait(lambda: manager.has("READY=1"))
    mark, said = len(agent.heard), len(manager.heard)
    rewrite(agent, lambda settings: settings["line"]["line-1"].update(defualt="alpha"))
    agent.process.send_signal(signal.SIGHUP)
    wait(lambda: manager.has("READY=1", said))
    wait(lambda: any("; reload refused: " in one and "defualt" in one for one in manager.heard[said:]))
    failed = next(line for line in agent.log().splitlines() if "event=reloaded ok=False" in line)
    assert "level=WARNING" in failed, "else log_level = warning hides it"
    agent.until(lambda: agent.detections("cam-1", mark))
    assert not agent.on("line/line-1/ready", mark)


def test_metrics_and_healthz_of_a_running_agent(make: Make) -> None:
    agent = make(lambda settings: settings["http"].update(bind="127.0.0.1:0"))
    agent.ready("bottle-500")
    agent.until_inferred("cam-1", "alpha:n@1")
    agent.ready("17")
    agent.until_inferred("cam-1", "beta:n@1")
    agent.until(lambda: "changeover_process_memory_bytes{" in ask(agent, "/metrics")[1])
    status, text = ask(agent, "/metrics")
    assert status == 200
    found: dict[str, float] = {}
    for family in parse(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    for name in (
        "frames_captured_total",
        "frames_inferred_total",
        "detections_total",
        "objects_total",
        "inference_seconds_sum",
        "latency_seconds_count",
        "cache_misses_total",
        "model_load_seconds_count",
        "swaps_total",
        "resident_models",
        "resident_model_bytes",
        "memory_used_bytes",
        "memory_budget_bytes",
        "process_memory_bytes",
        "broker_connected",
        "worker_up",
        "info",
    ):
        assert found[f"changeover_{name}"] > 0, name
    assert found["changeover_frames_inferred_total"] <= found["changeover_frames_captured_total"]
    assert found["changeover_memory_budget_bytes"] == 400 * 2**20
    status, text = ask(agent, "/healthz")
    assert status == 200
    health = json.loads(text)
    assert (health["status"], health["broker"], health["lines"]["line-1"]) == (
        "ok",
        True,
        {"phase": "ready", "ready": True, "live": True},
    )
    assert ask(agent, "/")[0] == 404


def test_healthz_fails_while_control_is_stuck_or_the_worker_down(make: Make) -> None:
    agent = make(lambda settings: settings["http"].update(bind="127.0.0.1:0"))
    agent.ready("bottle-500")
    agent.child("inference").send_signal(signal.SIGSTOP)

    def is_said_to_be_down() -> bool:
        status, text = ask(agent, "/healthz")
        return (status, json.loads(text).get("detail")) == (503, ["the worker process is down"])

    agent.until(is_said_to_be_down)
    agent.until(lambda: ask(agent, "/healthz")[0] == 200)


def test_a_taken_port_is_an_alert_and_nothing_worse(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        agent = make(lambda settings: settings["http"].update(bind=f"127.0.0.1:{port}"))
        agent.ready("bottle-500")
        agent.until(lambda: any(b'"http_unavailable"' in one.payload for one in agent.on("alerts")))
    assert len(re.findall("event=http_unavailable", agent.log())) == 1


def test_every_line_of_every_process_is_an_event(make: Make, mosquitto: Mosquitto) -> None:
    agent = make(lambda settings: settings["stream"][2].update(source="rtsp://admin:s3cret@127.0.0.1:9/x?token=s3cret"))
    agent.ready("bottle-500")
    agent.send("line/line-1/model/set", "nothing-such")
    agent.logged("event=camera_failed stream=cam-3")
    mosquitto.restart()
    mark = len(agent.heard)
    agent.until_said("line/line-1/ready", "bottle-500", mark)
    agent.child("inference").kill()
    agent.logged("event=child_lost child='worker'")
    agent.stop()
    shape = re.compile(r"at=\S+Z process=\d+ level=[A-Z]+ logger=[\w.]+ event=\w+( .*)?")
    odd = [line for line in agent.log().splitlines() if not shape.fullmatch(line)]
    assert odd == []
    assert "s3cret" not in agent.log()


def test_the_journal_gets_priorities_from_children_too(make: Make, tmp_path: Path, manager: Manager) -> None:
    log = tmp_path / "agent.log"
    log.touch()
    status = log.stat()
    manager.environment["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
    agent = make(lambda settings: settings["stream"][2].update(source="no-such-file.avi"))
    agent.logged("event=camera_failed stream=cam-3")
    agent.ready("bottle-500")
    lines = agent.log().splitlines()
    assert all(re.match(r"<[2-7]>process=\d+ level=", line) for line in lines)
    assert any(line.startswith("<4>") for line in lines)
