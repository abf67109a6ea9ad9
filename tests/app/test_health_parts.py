"""The parts that speak for the agent, each by itself: readiness, the pages of HTTP, log lines of what happened."""

import http.client
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from queue import SimpleQueue

import pytest
from support.facts import FACTS
from support.plant_bench import plant

from agent.app.observability.http_endpoints import Asked, HttpEndpoints
from agent.app.observability.systemd_status import SystemdStatus
from agent.app.outbound.event_log import tell
from agent.control.state import State
from agent.health.metrics.exposition import Metrics
from agent.health.systemd import Notifier
from agent.messages.events import Noticed
from agent.messages.payloads import Alert

DEADLINE_S = 60.0


class Manager(Notifier):
    """Hears what it would send."""

    def __init__(self) -> None:
        super().__init__({"WATCHDOG_USEC": "3000000"})
        self.heard: list[str] = []

    def ready(self) -> None:
        self.heard.append("ready")

    def alive(self) -> None:
        self.heard.append("alive")

    def status(self, text: str) -> None:
        self.heard.append(text)


@pytest.fixture
def manager() -> Iterator[Manager]:
    made = Manager()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("silent", "ready_at_s"),
    [
        ({"worker": 0.1, "camera_cam-1": 0.1}, 0),
        ({"worker": 0.1, "camera_cam-1": None}, 30),
        ({"worker": None, "camera_cam-1": 0.1}, None),
    ],
)
def test_ready_waits_for_the_worker_for_ever_and_for_a_camera_process_for_a_while(
    manager: Manager, silent: dict[str, float | None], ready_at_s: int | None
) -> None:
    service = SystemdStatus(State.of(plant()), manager)
    came = None
    for second in range(300):
        service.tick(1000.0 + second, silent, link_up=False)
        if came is None and "ready" in manager.heard:
            came = second
    assert came == ready_at_s
    assert manager.heard.count("ready") == (0 if ready_at_s is None else 1)


def test_a_reload_before_the_service_is_ready_does_not_make_it_ready(manager: Manager) -> None:
    service = SystemdStatus(State.of(plant()), manager)
    service.tick(1000.0, {"worker": None}, link_up=True)
    service.reloading()
    service.reloaded("", ok=True)
    assert "ready" not in manager.heard


def test_signs_of_life_stop_for_a_child_that_nobody_restarts(manager: Manager) -> None:
    service = SystemdStatus(State.of(plant()), manager)
    service.tick(1000.0, {"worker": 0.1}, link_up=True)
    assert manager.heard.count("alive") == 1
    service.tick(1002.0, {"worker": 19.0}, link_up=True)
    assert manager.heard.count("alive") == 2
    service.tick(1004.0, {"worker": 21.0}, link_up=True)
    assert manager.heard.count("alive") == 2


class Control:
    """Answers questions on a thread of its own, as control does, or not at all."""

    def __init__(self) -> None:
        self.facts = FACTS
        self.answers = True
        self.noticed: list[Noticed] = []
        self._inbox: SimpleQueue[Asked | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def put(self, asked: Asked) -> None:
        self._inbox.put(asked)

    def stop(self) -> None:
        self._inbox.put(None)
        self._thread.join(DEADLINE_S)

    def _run(self) -> None:
        while (asked := self._inbox.get()) is not None:
            if self.answers:
                asked.answers.put(self.facts)


@pytest.fixture
def control() -> Iterator[Control]:
    made = Control()
    yield made
    made.stop()


Ask = Callable[[str], tuple[int, str]]


@pytest.fixture
def ask(control: Control) -> Iterator[Ask]:
    scraping = HttpEndpoints("127.0.0.1:0", Metrics(), control.put, control.noticed.append)
    scraping.start(0.0)

    def get(path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", scraping.port, timeout=DEADLINE_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    yield get
    scraping.stop()


def test_both_pages_are_made_of_controls_facts(ask: Ask, control: Control) -> None:
    status, text = ask("/metrics")
    assert (status, "changeover_power_watts 7.8" in text) == (200, True)
    control.facts = replace(FACTS, workers_up={"default": False}, link=replace(FACTS.link, is_up=False))
    status, text = ask("/healthz")
    assert status == 503
    health = json.loads(text)
    assert (health["status"], health["detail"]) == ("failing", ["the worker process is down"])
    assert (health["broker"], health["streams"], health["alerts"]) == (
        False,
        {"cam-1": "online", "cam-2": "offline"},
        ["camera"],
    )


def test_a_broker_that_is_away_is_nothing_that_a_restart_would_cure(ask: Ask, control: Control) -> None:
    control.facts = replace(FACTS, link=replace(FACTS.link, is_up=False))
    assert ask("/healthz")[0] == 200


def test_a_control_that_is_stuck_is_said_on_both_pages(ask: Ask, control: Control) -> None:
    control.answers = False
    assert ask("/metrics") == (503, "control has not answered for 2 s\n")
    status, text = ask("/healthz")
    assert (status, json.loads(text)["detail"]) == (503, ["control has not answered for 2 s"])
    control.answers = True
    assert ask("/healthz")[0] == 200


def test_a_taken_port_is_tried_again_each_minute(control: Control) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        scraping = HttpEndpoints(f"127.0.0.1:{port}", Metrics(), control.put, control.noticed.append)
        scraping.start(0.0)
        scraping.tick(59.0)
        assert [one.on for one in control.noticed] == [True]
        scraping.tick(61.0)
        assert [one.on for one in control.noticed] == [True, True]
    scraping.tick(100.0)
    assert scraping.port == 0
    scraping.tick(122.0)
    assert scraping.port == port
    assert control.noticed[-1] == Noticed("http_unavailable", on=False)
    scraping.stop()


def test_no_bind_serves_nothing(control: Control) -> None:
    scraping = HttpEndpoints("", Metrics(), control.put, control.noticed.append)
    scraping.start(0.0)
    scraping.tick(1000.0)
    assert (scraping.port, control.noticed) == (0, [])
    scraping.stop()


def test_alerts_are_logged_as_they_come_and_go(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    tell(Alert("camera", on=True, stream="cam-1", detail="stalled"))
    tell(Alert("camera", on=False, stream="cam-1"))
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("WARNING", "event=alert code=camera on=True line=None stream=cam-1 detail='stalled'"),
        ("INFO", "event=alert code=camera on=False line=None stream=cam-1 detail=None"),
    ]
