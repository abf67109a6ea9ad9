"""An agent under measurement, and the PLC that drives it over MQTT."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from agent import isolated
from agent.bench.plant.bench_plant import BASE, Plant
from agent.bench.plant.broker import mosquitto
from agent.bench.plant.children import running, runs
from agent.bench.plant.observer import Observer, Seen
from agent.messages.errors import TransientError
from agent.messages.payloads import Switch
from agent.mqtt.blocking_client import BlockingClient, connected
from agent.mqtt.endpoint.link_settings import LinkSettings

DEADLINE_S: Final = 180.0
_TICK_S: Final = 0.05
_WORKER: Final = "agent.inference.process"


@dataclass(frozen=True)
class Changeover:
    """One requested product, as the PLC observed it; times are time.monotonic()."""

    asked_s: float
    ready_s: float
    first: Seen
    """First detection by the new model."""
    reported_s: float
    report: Switch
    missing: int
    """Frames without detections, from the request to `first`."""

    @property
    def to_first_ms(self) -> float:
        """Time from the publish to the first detection by the new model."""
        return (self.first.at_s - self.asked_s) * 1000

    @property
    def to_ready_ms(self) -> float:
        """Time from the publish to `ready`."""
        return (self.ready_s - self.asked_s) * 1000


class Device:
    """A running agent and the PLC's client, valid within a `started` block; for one thread."""

    def __init__(self, plant: Plant, pid: int, peer: BlockingClient, log: Path, is_up: Callable[[], bool]) -> None:
        self.start_s = 0.0  # from its start to a detection of every stream
        self.observer: Final = Observer()
        self.pid: Final = pid
        self._plant: Final = plant
        self._peer: Final = peer
        self._log: Final = log
        self._is_up: Final = is_up

    def until(self, is_done: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
        """Receive messages until `is_done`; raises TransientError after `deadline_s`, or where the agent ends."""
        limit_s = time.monotonic() + deadline_s
        while not is_done():
            if time.monotonic() > limit_s or not self._is_up():
                end = self._log.read_text(errors="replace")[-1500:]
                raise TransientError(f"{what}: not within {deadline_s:g} s; the agent's log ends with\n{end}")
            arrival = self._peer.receive(_TICK_S)
            while arrival is not None:
                self.observer.take(arrival)
                arrival = self._peer.receive(0)

    def during(self, seconds: float) -> None:
        """Receive messages for `seconds`."""
        end_s = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end_s, "running on", seconds + DEADLINE_S)

    def ask(self, line: str, product: str) -> float:
        """Publish a product; return the time before the publish."""
        asked_s = time.monotonic()
        self._peer.publish(f"{BASE}/line/{line}/product/set", product)
        return asked_s

    def send(self, topic: str, payload: str) -> None:
        """Publish a command on a topic of the device."""
        self._peer.publish(f"{BASE}/{topic}", payload)

    def wait_until_serving(self) -> None:
        """Wait until the agent is online and every stream with frames has a detection."""
        streams = [stream for one in self._plant.stations if one.stalls for stream in one.streams]
        self.until(lambda: self.observer.status == "online", "online")
        self.until(lambda: all(self.observer.frames[stream] for stream in streams), "first detections")

    def report_of(self, line: str, product: str) -> tuple[float, Switch]:
        """Request a product; return the changeover report with its time of arrival."""
        mark = len(self.observer.switches)
        asked_s = self.ask(line, product)

        def found() -> list[tuple[float, Switch]]:
            said = self.observer.switches[mark:]
            return [(at_s, one) for at_s, one in said if at_s >= asked_s and (one.line, one.product) == (line, product)]

        self.until(found, f"the report of {product}")
        at_s, report = found()[0]
        if report.result != "switched":
            raise TransientError(f"{product}: {report.result}, {report.reason}: {report.detail}")
        return at_s, report

    def bring(self, line: str, product: str) -> None:
        """Make a line ready for `product`; it may be so already, because an agent resumes its last product."""
        mark = len(self.observer.switches)
        if self._is_ready(line, product):
            return
        self.ask(line, product)

        def refused() -> list[Switch]:
            said = [one for _, one in self.observer.switches[mark:] if (one.line, one.product) == (line, product)]
            return [one for one in said if one.result in {"failed", "rejected"}]

        self.until(lambda: refused() or self._is_ready(line, product), f"{product} brought in")
        if refused():
            raise TransientError(f"{product}: {refused()[0].reason}: {refused()[0].detail}")

    def _is_ready(self, line: str, product: str) -> bool:
        return self.observer.ready.get(line, (0.0, ""))[1] == product

    def change_over(self, line: str, product: str) -> Changeover:
        """Request a product of a line with one stream; return once the new model has answered."""
        model = self._plant.models[product].reference
        frames = self.observer.frames[f"cam-{line.removeprefix('line-')}"]
        mark = max(0, len(frames) - 1)
        asked_s = time.monotonic()
        reported_s, report = self.report_of(line, product)

        def first() -> Seen | None:
            return next((one for one in frames[mark:] if one.model == model and one.at_s >= asked_s), None)

        def ready_s() -> float | None:
            at_s, value = self.observer.ready.get(line, (0.0, ""))
            return at_s if value == product and at_s >= asked_s else None

        self.until(lambda: first() and ready_s(), f"{product} in service")
        seen, said_s = first(), ready_s()
        assert seen is not None, "it was waited for"
        assert said_s is not None, "it was waited for"
        window = frames[mark : frames.index(seen, mark) + 1]
        missing = window[-1].frame - window[0].frame - (len(window) - 1)
        return Changeover(asked_s, said_s, seen, reported_s, report, missing)

    def worker_pid(self) -> int:
        """Return the worker's process id."""
        for child in psutil.Process(self.pid).children():
            if runs(child, _WORKER):
                return child.pid
        raise TransientError("the agent has no worker process")


@contextmanager
def started(plant: Plant, *, nodelay: bool = True) -> Iterator[Device]:
    """Run a broker and an agent; yield once every stream has detections. The end of the block stops both."""
    plant.folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as undo:
        port = undo.enter_context(mosquitto(plant.folder / "broker", nodelay=nodelay))
        config = plant.write(port)
        peer = undo.enter_context(connected(LinkSettings("127.0.0.1", port, "bench-plc", protocol="3.1.1")))
        peer.subscribe([f"{BASE}/#"])
        log = plant.folder / "agent.log"
        command = isolated.command("agent", "run", "--config", config)
        began_s = time.monotonic()
        agent = undo.enter_context(running(command, log))
        device = Device(plant, agent.pid, peer, log, lambda: agent.poll() is None)
        device.wait_until_serving()
        device.start_s = time.monotonic() - began_s
        yield device
