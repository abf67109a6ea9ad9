"""The web process: console and gateway, started where `[web]` serves anything, restarted when it is lost."""

import importlib.util
import logging
import os
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from agent import isolated
from agent.app.children.web.console_feed import ConsoleFeed
from agent.app.children.web.document_feed import DocumentFeed
from agent.app.children.web.request_counts import RequestCounts
from agent.app.children.web.request_links import RequestLinks
from agent.control.inputs.routes import routes
from agent.control.plant import Plant
from agent.messages.children import Log, Message
from agent.messages.descriptors import RequestLink
from agent.messages.events import ChildLost, ChildUp, Noticed, Received, Reply
from agent.messages.payloads import Ack
from agent.messages.topics import Topics
from agent.messages.web.control import (
    AskModel,
    CommandAnswered,
    DocumentsTaken,
    ModelRefused,
    OperatorCommand,
    RequestsCounted,
    Serving,
    Watching,
    WebClient,
    WebMessage,
    WebSetup,
    WorkerGone,
)
from agent.messages.web.holding import HoldModel
from agent.messages.web.told import MetaWeb
from agent.mqtt.publishing.tapped_publisher import TappedPublisher
from agent.processes.supervisor import ChildSpec, Supervisor
from agent.settings import Settings

_log: Final = logging.getLogger(__name__)
WEB: Final = "web"
ALERT: Final = "web_unavailable"
CONSOLE: Final = "\0console/"
"""Start of the reply topics of the console's commands; no topic of a broker can hold NUL."""
_MODULE: Final = "agent.web.web_process"
_LIBRARIES: Final = ("starlette", "uvicorn", "grpclib", "google.protobuf", "PIL")
_BEAT_DEADLINE_S: Final = 10.0
_EXTRA: Final = (
    "the extra `web` is not installed: pip install 'changeover[web]', or take [web] out of the configuration"
)
_ENVIRONMENT: Final = {
    "MALLOC_ARENA_MAX": "1",  # because malloc_trim gives back the top of the main arena only
    # Because pages that each request gives back and takes again cost more than its HTTP; the process trims when idle.
    "MALLOC_MMAP_THRESHOLD_": str(8 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(16 << 20),
}


class WebProcess:
    """Owner of the web process, for the loop's thread.

    `decide` takes events; `receive` a person's command, like one from the broker; `plant` returns the configured one;
    `hold` sends to a group's worker, and returns False where that is down; `say` publishes the process's walls.
    """

    def __init__(  # noqa: PLR0913 - what the process is connected with, spelt out
        self,
        settings: Settings,
        topics: Topics,
        supervisor: Supervisor,
        publisher: TappedPublisher,
        pictures: Mapping[str, int],
        *,
        decide: Callable[[Noticed], None],
        receive: Callable[[Received], None],
        plant: Callable[[], Plant],
        hold: Callable[[str, HoldModel], bool],
        say: Callable[[MetaWeb], None],
    ) -> None:
        self._settings: Final = settings
        self._topics: Final = topics
        self._supervisor: Final = supervisor
        self._publisher: Final = publisher
        self._decide: Final = decide
        self._receive: Final = receive
        self._plant: Final = plant
        self._hold: Final = hold
        self._say: Final = say
        web = settings.web
        self.links: Final = RequestLinks(settings.groups if web.is_on and web.gateway else ())
        self._feed: Final = DocumentFeed(topics.base, self.send)
        self.console: Final = ConsoleFeed(topics, publisher, self._feed, pictures)
        self.is_started = False
        """True where the process runs, or is about to be started again."""
        self.counts: Final = RequestCounts()
        """Requests since the agent's start, for the metrics."""
        self.port = 0
        """TCP port of console and HTTP requests; 0 while not served."""
        self.grpc_port = 0
        self.command: tuple[str, ...] = tuple(isolated.command(_MODULE))
        """Command line of the process; tests replace it."""

    @property
    def is_on(self) -> bool:
        """True where the settings ask for the process."""
        return self._settings.web.is_on

    def watch(self) -> None:
        """Take a copy of every published document; to be called before the first is published."""
        if self.is_on:
            self._publisher.tap = self.console.tapped

    def start(self) -> None:
        """Start the process, where the settings ask for it and its libraries are there; else an alert says why."""
        if not self.is_on:
            return
        if any(_is_missing(name) for name in _LIBRARIES):
            self._tell(_EXTRA)
            return
        self.is_started = True
        self._supervisor.start(self._spec())

    def send(self, message: Message) -> None:
        """Send a message, where the process runs."""
        if self.is_started:
            self._supervisor.send(WEB, message)

    def answer(self, reply: Reply, ack: bytes) -> bool:
        """Send an ack to the console; False where the reply topic is a broker's."""
        if not reply.topic.startswith(CONSOLE):
            return False
        self.send(CommandAnswered(int(reply.topic[len(CONSOLE) :]), ack))
        return True

    def take(self, message: Message) -> None:
        """Handle a message of the process, or its loss."""
        match message:
            case ChildUp():
                self._feed.open()
            case ChildLost():
                self._feed.close()
                self.console.watch(())
                self.counts.restarted()
                self.port = self.grpc_port = 0
                self._tell(f"the web process is lost: {message.detail}")
            case DocumentsTaken():
                self._feed.taken()
            case Serving():
                self.port, self.grpc_port = message.port, message.grpc_port
                self._say(message.walls)
                self._tell(message.detail)
            case OperatorCommand():
                self._command(message)
            case Watching():
                self.console.watch(message.streams)
            case AskModel():
                self._ask(message)
            case RequestsCounted():
                self.counts.take(message)
            case Log():
                _log.log(logging.getLevelName(message.level), "event=web_told detail=%r", message.text)

    def worker_lost(self, group: str = "default") -> None:
        """Tell the process that what a worker had is unanswered."""
        self.send(WorkerGone(group))

    def close(self) -> None:
        """Close the links' descriptors; the supervisor ends the process."""
        self.links.close()

    def _command(self, message: OperatorCommand) -> None:
        """Handle a person's command like one from the broker; a topic that is none is refused."""
        _log.info("event=console_command user=%r topic=%r", message.user, message.topic[:200])
        topic = f"{self._topics.base}/{message.topic}"
        if routes(self._plant(), topic):
            reply = Reply(f"{CONSOLE}{message.number}")
            self._receive(Received(topic, message.payload, reply=reply, user=message.user))
        else:
            refused = Ack(None, topic, "rejected", "not_understood", "no topic of a command")
            self.send(CommandAnswered(message.number, msgspec.json.encode(refused)))

    def _ask(self, message: AskModel) -> None:
        version = self._plant().loadable(message.reference)
        if version is None:
            self.send(ModelRefused(message.number, "unknown_model", f"the catalog has no {message.reference!r}"))
        elif not self._hold(message.group, HoldModel(message.number, version, message.hold_s)):
            self.send(ModelRefused(message.number, "worker_lost", "the worker starts again"))

    def _tell(self, detail: str) -> None:
        if detail:
            _log.error("event=web_unavailable detail=%r", detail)
        else:
            _log.info("event=web_serving port=%d grpc_port=%d", self.port, self.grpc_port)
        self._decide(Noticed(ALERT, on=bool(detail), detail=detail or None))

    def _setup(self) -> WebSetup:
        setup = setup_of(self._settings, self._topics.base, self.links.of_web())
        return replace(setup, pictures=self.console.pictures)

    def _spec(self) -> ChildSpec:
        return ChildSpec(
            name=WEB,
            command=self.command,
            incoming=WebMessage,
            setup=self._setup,
            descriptors=(
                *(fd for link in self.links.of_web() for fd in (link.channel, link.memory)),
                *(one.descriptor for one in self.console.pictures),
            ),
            beat_deadline_s=_BEAT_DEADLINE_S,
            busy_deadline_s=_BEAT_DEADLINE_S,
            environment={**os.environ, **_ENVIRONMENT},
        )


def setup_of(settings: Settings, base: str, links: tuple[RequestLink, ...]) -> WebSetup:
    """Return the first message to a web process."""
    web = settings.web
    return WebSetup(
        device=settings.device.id,
        base=base,
        state_dir=str(settings.device.state_dir),
        bind=web.bind,
        grpc_bind=web.grpc_bind,
        cert_file=str(web.cert_file or ""),
        key_file=str(web.key_file or ""),
        client_ca_file=str(web.client_ca_file or ""),
        console=web.console,
        gateway=web.gateway,
        clients=tuple(
            WebClient(
                one.name,
                str(one.token_file or ""),
                one.subject,
                one.models,
                one.requests_per_s,
                one.max_inflight,
                one.group,
            )
            for one in web.client
        ),
        links=links,
    )


def _is_missing(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is None
    except ModuleNotFoundError:  # of the package around it
        return True
