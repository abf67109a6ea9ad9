"""A plant of several lines that turn over while things break: agent, broker, controller, and the links between them."""

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

from plc.controller import Controller, PlcLine
from plc.judge import Verdict, Witness, judge
from plc.link import HoldingLink
from support.brokers import Mosquitto
from support.running_agent import BASE, PRODUCTS, RunningAgent

from agent.mqtt.blocking_client import BlockingClient, connected
from agent.mqtt.endpoint.link_settings import LinkSettings

FPS: Final = 6
Fault = Literal[
    "none",
    "worker killed",
    "agent killed",
    "broker killed",
    "PLC link held",
    "PLC link cut",
    "PLC link held, agent killed",
    "device link held, agent killed",
    "retained live",
]
FAULTS: Final[tuple[Fault, ...]] = get_args(Fault)
_PRODUCTS: Final = tuple(PRODUCTS)
_BACK_S: Final = 300.0
_FELT_S: Final = 1.0
"""A dead worker is said within half of this; only then does it mean anything that a belt runs."""
_RECONNECTED_S: Final = 4.0
"""Time that a belt is watched after a connect that brings a retained `live` of a dead device."""


def drawn(seed: int) -> Iterator[tuple[Fault, random.Random]]:
    """Yield faults without an end, each kind before any comes twice."""
    chance = random.Random(seed)
    while True:
        kinds = list(FAULTS)
        chance.shuffle(kinds)
        for kind in kinds:
            yield kind, chance


@dataclass
class Outcome:
    changeovers: int = 0
    verdict: Verdict = field(default_factory=Verdict)
    faults: dict[str, int] = field(default_factory=dict)
    detections: int = 0
    longest_cycle_s: float = 0.0


class Plant:
    """Owns everything of one run, in a `with` block."""

    def __init__(self, folder: Path, lines: int) -> None:
        self._folder = folder
        self._undo = ExitStack()
        (folder / "broker").mkdir(parents=True)
        self._broker = Mosquitto(folder / "broker", persistence=True, more=())
        self._names = [f"line-{number}" for number in range(1, lines + 1)]
        self._witness = Witness()
        self._device_link = HoldingLink(self._broker.port, self._witness.tap)
        self._plc_link = HoldingLink(self._broker.port)
        self._lines = [PlcLine(name, self._plc_link.port) for name in self._names]
        self._controller = Controller(self._lines)
        self._peer = BlockingClient(LinkSettings("127.0.0.1", self._broker.port, ""))
        self._agent: RunningAgent | None = None

    @property
    def agent(self) -> RunningAgent:
        assert self._agent is not None
        return self._agent

    def __enter__(self) -> "Plant":  # noqa: PYI034 - Self is not in typing before 3.11
        undo = self._undo
        self._broker.start()
        undo.callback(self._broker.kill)
        for link in (self._device_link, self._plc_link):
            link.start()
            undo.callback(link.stop)
        self._peer.connect()
        undo.callback(self._peer.close)
        url = f"mqtt://127.0.0.1:{self._device_link.port}"
        self._agent = RunningAgent(self._folder, url, self._peer, self._settings)
        undo.callback(self._agent.kill)
        self._agent.start()
        self._agent.until_said("status", "online")
        self._controller.start()
        undo.callback(self._controller.stop)
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def suffer(self, changeovers: int, seed: int, seconds: float = float("inf")) -> Outcome:
        """Turn lines over, with one fault in each round, until there were enough or the time is over; judge it all."""
        outcome, limit_s = Outcome(), time.monotonic() + seconds
        for fault, chance in drawn(seed):
            if outcome.changeovers >= changeovers or time.monotonic() > limit_s:
                break
            self._round(fault, chance)
            outcome.changeovers += len(self._lines)
            outcome.faults[fault] = outcome.faults.get(fault, 0) + 1
        self._watch(1.0)  # what was captured last is on the wire then
        outcome.verdict = self.verdict()
        outcome.detections = self._witness.detections
        outcome.longest_cycle_s = self._controller.longest_cycle_s
        return outcome

    def verdict(self) -> Verdict:
        """Judge all belts by what was seen so far."""
        verdict = Verdict()
        for name, line in zip(self._names, self._lines, strict=True):
            verdict = verdict.plus(self._judged(name, line))
        return verdict

    def _judged(self, name: str, line: PlcLine) -> Verdict:
        return judge(list(line.runs), line.connects, self._witness.frames(name), lambda product: PRODUCTS[product][0])

    def _round(self, fault: Fault, chance: random.Random) -> None:
        order = [chance.choice([one for one in _PRODUCTS if one != line.product]) for line in self._lines]
        waits = [chance.uniform(0, 0.2) for _ in self._lines]
        at_s = chance.uniform(0, 2.0)
        for line, product, wait_s in zip(self._lines, order, waits, strict=True):
            self._watch(wait_s)
            line.order(product)
        self._watch(at_s)
        self._break(fault, chance)
        self._watch(_FELT_S)
        self.agent.until(lambda: all(line.is_running for line in self._lines), _BACK_S)
        self.agent.heard.clear()

    def _break(self, fault: Fault, chance: random.Random) -> None:
        match fault:
            case "worker killed":
                self.agent.child("inference.process").kill()
            case "agent killed":
                self._kill_agent(0.0)
            case "broker killed":
                self._broker.kill()
                self._watch(chance.uniform(0.2, 3))
                self._broker.start()
            case "PLC link held":
                self._held(self._plc_link, chance.uniform(0.5, 6))
            case "PLC link cut":
                self._plc_link.cut()
            case "PLC link held, agent killed":
                self._dies_behind(self._plc_link, chance)
            case "device link held, agent killed":
                self._dies_behind(self._device_link, chance)
            case "retained live":
                self._retained_live()
            case "none":
                pass

    def _held(self, link: HoldingLink, seconds: float) -> None:
        link.hold()
        self._watch(seconds)
        link.release()

    def _dies_behind(self, link: HoldingLink, chance: random.Random) -> None:
        """Let `live` go on behind a link that stands, then die, and only then let it all come."""
        link.hold()
        self._watch(chance.uniform(0.2, 5))
        self.agent.kill()
        self._watch(chance.uniform(0, 2))
        link.release()
        self._watch(chance.uniform(0.5, 4))
        self.agent.start()

    def _retained_live(self) -> None:
        """Have the broker repeat a `live` that nobody means any more, to a controller that connects."""
        self.agent.kill()
        with connected(LinkSettings("127.0.0.1", self._broker.port, "")) as peer:
            for name, line in zip(self._names, self._lines, strict=True):
                peer.publish(f"{BASE}/line/{name}/live", line.product, retain=True)
        for _ in range(2):
            self._plc_link.cut()
            self._watch(_RECONNECTED_S)
        self.agent.start()

    def _kill_agent(self, dark_s: float) -> None:
        self.agent.kill()
        self._watch(dark_s)
        self.agent.start()

    def _watch(self, seconds: float) -> None:
        limit_s = time.monotonic() + seconds
        while (left_s := limit_s - time.monotonic()) > 0:
            self._peer.receive(min(left_s, 0.1))

    def _settings(self, settings: dict[str, Any]) -> None:
        settings["stream"] = _streams(self._names)
        settings["line"] = {name: {"default": "alpha", "products": dict(PRODUCTS)} for name in self._names}
        settings["outbox"] = {"detections": "always"}  # a kill loses nothing of what was checked


def _streams(lines: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"id": f"cam-{number}", "line": line, "source": "one.avi", "fps": FPS, "loop": True}
        for number, line in enumerate(lines, 1)
    ]
