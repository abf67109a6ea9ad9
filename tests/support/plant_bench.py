"""A plant of two lines, and a hand on its one reconciler."""

from dataclasses import dataclass, field

from agent.control.actions import Action, Answer, AssignLine, PublishEvent, PublishLive, PublishState
from agent.control.events import StreamChanged, Tick, WorkerLost, WorkerUp
from agent.control.plant import LineRules, Plant
from agent.control.reconciler import Event, reconcile
from agent.control.state import Now, State
from agent.messages.children import SwapFailed, Swapped, SwapReport
from agent.messages.errors import Reason
from agent.messages.events import LinkUp, Received, Reply
from agent.messages.payloads import Ack, Alert, Switch
from agent.messages.references import ModelReference, ModelVersion

BASE = "changeover/v1/box"
VERSIONS = (
    ModelVersion("cap-check", "n", "3", "/models/cap-n.onnx", "aa", rank=1),
    ModelVersion("cap-check", "s", "3", "/models/cap-s.onnx", "bb", rank=2),
    ModelVersion("label-check", "n", "1", "/models/label-n.onnx", "cc", rank=1),
)
REPORT = SwapReport("cold", "make-before-break", 120.0, 20.0, 0.0, 0)


def find(reference: ModelReference, variant: str) -> ModelVersion | None:
    """Look up as the catalog does, in as far as these tests need it."""
    wanted = reference.variant or variant
    return next((one for one in VERSIONS if (one.name, one.variant) == (reference.name, wanted)), None)


def plant() -> Plant:
    """Two lines: one with two streams."""
    rules = LineRules(
        default=ModelReference("cap-check"),
        variant="n",
        products={
            "bottle-500": ModelReference("cap-check"),
            "bottle-330": ModelReference("cap-check"),
            "17": ModelReference("label-check"),
            "big": ModelReference("cap-check", "s"),
        },
        changeover_timeout_s=30.0,
    )
    streams = {"cam-1": "line-1", "cam-2": "line-1", "cam-3": "line-2"}
    return Plant(BASE, "9f3a51c2", {"line-1": rules, "line-2": rules}, streams, find)


@dataclass
class Bench:
    """Feeds events with a clock of its own, and remembers every action in order."""

    state: State = field(default_factory=lambda: State.of(plant()))
    now_s: float = 1000.0
    log: list[Action] = field(default_factory=list)
    retained: dict[str, str] = field(default_factory=dict)

    def give(self, *events: Event) -> list[Action]:
        """Reconcile events; return their actions."""
        actions = [
            action for event in events for action in reconcile(self.state, event, Now(self.now_s, 1.7e9 + self.now_s))
        ]
        self.log += actions
        for action in actions:
            if isinstance(action, PublishState):
                self.retained[action.topic] = action.payload.decode()
        return actions

    def wait(self, seconds: float) -> list[Action]:
        """Let time pass, with ticks."""
        actions = []
        for _ in range(int(seconds / 0.25)):
            self.now_s += 0.25
            actions += self.give(Tick())
        return actions

    def start(self) -> None:
        """Bring everything up: link, worker with the default on both lines, all streams online."""
        self.give(Tick(), LinkUp("5"), WorkerUp())
        self.swap("line-1")
        self.swap("line-2")
        self.give(*(StreamChanged(stream, "online") for stream in self.state.streams))

    def product(self, value: str, line: str = "line-1", *, retained: bool = False) -> list[Action]:
        """Publish a product as a PLC does."""
        return self.give(Received(f"{BASE}/line/{line}/product/set", value.encode(), retained))

    def model(self, value: str, line: str = "line-1") -> list[Action]:
        """Publish an operator's choice."""
        return self.give(Received(f"{BASE}/line/{line}/model/set", value.encode(), reply=Reply("me/answers", b"7")))

    def swap(self, line: str = "line-1") -> list[Action]:
        """Let the worker carry out the line's assignment."""
        target = self.state.lines[line].assignment.target
        assert target is not None
        return self.give(Swapped(line, self.state.lines[line].assignment.change, target.reference, REPORT))

    def fail(self, reason: Reason, line: str = "line-1") -> list[Action]:
        """Let the worker fail at the line's assignment, keeping what it had."""
        one, assigned = self.state.lines[line], self.state.lines[line].assignment
        assert assigned.target is not None
        failed = SwapFailed(
            line, assigned.change, assigned.target.reference, one.serving.model, reason, "said the worker"
        )
        return self.give(failed)

    def lose_worker(self) -> list[Action]:
        """Kill the worker."""
        return self.give(WorkerLost("killed"))

    def said(self, topic: str) -> str | None:
        """Return the newest retained value of a topic of the device."""
        return self.retained.get(topic)


def states(actions: list[Action], topic: str) -> list[str]:
    """Return what was published on one retained topic."""
    return [action.payload.decode() for action in actions if isinstance(action, PublishState) and action.topic == topic]


def acks(actions: list[Action]) -> list[Ack]:
    """Return the acks."""
    return [action.ack for action in actions if isinstance(action, Answer)]


def switches(actions: list[Action]) -> list[Switch]:
    """Return the switch reports."""
    return [a.payload for a in actions if isinstance(a, PublishEvent) and isinstance(a.payload, Switch)]


def alerts(actions: list[Action]) -> list[Alert]:
    """Return the changes of alerts."""
    return [a.payload for a in actions if isinstance(a, PublishEvent) and isinstance(a.payload, Alert)]


def assigned(actions: list[Action]) -> list[str]:
    """Return the references that the worker was told."""
    return [action.model.reference for action in actions if isinstance(action, AssignLine)]


def lives(actions: list[Action], line: str = "line-1") -> list[str]:
    """Return the heartbeats of a line."""
    return [action.value for action in actions if isinstance(action, PublishLive) and action.line == line]
