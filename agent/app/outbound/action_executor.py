"""Executor that carries control's actions to broker, worker and disk, in order."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from agent.app.children.groups.workers import Workers
from agent.app.children.supply import SupplyProcess
from agent.app.outbound import event_log
from agent.app.outbound.refusals import Refusals
from agent.control.actions import (
    Action,
    Answer,
    AskSupply,
    AssignLine,
    CompareModels,
    DisconnectFor,
    EndComparison,
    EndSupply,
    PreloadLikely,
    PrepareModel,
    PublishEvent,
    PublishLive,
    PublishState,
    ReadCatalog,
    RecordComparison,
    Reload,
    RequeryRetained,
    RestartWorker,
    SaveSnapshot,
    SetLogLevel,
    SetPublish,
)
from agent.control.comparisons.comparison import Comparison
from agent.control.state import Now
from agent.messages.canary import Compare, StopComparing
from agent.messages.children import Assign, Preload, Prepare
from agent.messages.events import Reply
from agent.messages.payloads import Switch
from agent.messages.topics import Topics
from agent.mqtt.link.link import Link
from agent.mqtt.publishing.publisher import Publisher
from agent.settings import LogLevel, Publish

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class Callbacks:
    """Callbacks for actions that do not go to the broker."""

    workers: Workers
    save_snapshot: Callable[[], None]
    set_publish: Callable[[str, Publish | None], None]
    reload: Callable[[], None]
    read_catalog: Callable[[], None]
    supply: SupplyProcess
    set_log_level: Callable[[LogLevel, float], None]
    count_switch: Callable[[Switch], None]
    record_switch: Callable[[Switch], None]
    record_comparison: Callable[[str, Comparison], None]
    answer_console: Callable[[Reply, bytes], bool]
    """Sends an ack to the console; returns False where the reply topic is a broker's."""
    is_bound: Callable[[str], bool]
    """Returns True where a topic is that of a `[[binding]]`."""


class ActionExecutor:
    """Executor of actions; it makes no decisions."""

    def __init__(self, topics: Topics, publisher: Publisher, link: Link, callbacks: Callbacks) -> None:
        self._topics: Final = topics
        self._publisher: Final = publisher
        self._link: Final = link
        self._callbacks: Final = callbacks
        self._refusals: Final = Refusals(
            lambda payload: publisher.send_state(topics.of_device("refused"), payload), topics.base
        )

    def tick(self, now: Now) -> None:
        """Report refused commands, at most one a second."""
        self._refusals.tick(now)

    def perform(self, actions: list[Action]) -> None:
        """Execute `actions` in their order."""
        for action in actions:
            self._perform(action)

    def _perform(self, action: Action) -> None:
        match action:
            case PublishState():
                self._publisher.send_state(f"{self._topics.base}/{action.topic}", action.payload)
            case PublishLive():
                self._publisher.send_live(self._topics.of_line(action.line, "live"), action.value.encode())
            case PublishEvent():
                topic = f"{self._topics.base}/{action.topic}"
                event_log.tell(action.payload)
                if isinstance(action.payload, Switch):
                    self._callbacks.count_switch(action.payload)
                    self._callbacks.record_switch(action.payload)
                self._publisher.send_event(topic, msgspec.json.encode(action.payload))
            case Answer():
                self._answer(action)
            case AssignLine() | PrepareModel() | CompareModels() | EndComparison():
                self._callbacks.workers.send_to_line(action.line, _for_line(action))
            case PreloadLikely():
                self._callbacks.workers.send(action.group, Preload(action.models, action.gone))
            case _:
                self._perform_rare(action)

    def _perform_rare(
        self,
        action: RecordComparison
        | SetPublish
        | RequeryRetained
        | Reload
        | ReadCatalog
        | AskSupply
        | EndSupply
        | DisconnectFor
        | RestartWorker
        | SetLogLevel
        | SaveSnapshot,
    ) -> None:
        match action:
            case SetPublish():
                self._callbacks.set_publish(action.stream, action.publish)
            case RequeryRetained():
                self._link.ask_again(action.filter_)
            case DisconnectFor():
                _log.warning("event=stand_back seconds=%g", action.seconds)
                self._publisher.hold(action.seconds)
            case RestartWorker():
                _log.warning("event=worker_given_up group=%s detail=%r", action.group, action.detail)
                self._callbacks.workers.restart(action.group, action.detail)
            case SetLogLevel():
                self._callbacks.set_log_level(action.level, action.for_s)
            case SaveSnapshot():
                self._callbacks.save_snapshot()
            case _:
                self._perform_for_models(action)

    def _perform_for_models(self, action: RecordComparison | Reload | ReadCatalog | AskSupply | EndSupply) -> None:
        match action:
            case RecordComparison():
                self._callbacks.record_comparison(action.line, action.comparison)
            case Reload():
                self._callbacks.reload()
            case ReadCatalog():
                self._callbacks.read_catalog()
            case AskSupply():
                self._callbacks.supply.ask(action.message)
            case EndSupply():
                self._callbacks.supply.end()

    def _answer(self, action: Answer) -> None:
        payload, reply = msgspec.json.encode(action.ack), action.reply
        if action.ack.result == "rejected":
            self._refusals.add(action.ack)
        if reply is not None and self._callbacks.answer_console(reply, payload):
            return
        # because a client with rights for one topic must not reach a line through its ack
        if reply is not None and self._topics.may_answer(reply.topic) and not self._callbacks.is_bound(reply.topic):
            self._publisher.send_event(reply.topic, payload, reply.correlation)
        else:
            self._publisher.send_event(self._topics.of_device("ack"), payload)


def _for_line(
    action: AssignLine | PrepareModel | CompareModels | EndComparison,
) -> Assign | Prepare | Compare | StopComparing:
    """Return the message that has the line's worker execute an action."""
    match action:
        case AssignLine():
            return Assign(action.line, action.change, action.model, action.keeps_ready)
        case PrepareModel():
            return Prepare(**vars(action))
        case CompareModels():
            return Compare(**vars(action))
        case EndComparison():
            return StopComparing(action.line, action.number)
