"""The web process: console and gateway, started where `[web]` serves anything, restarted when it is lost."""

import importlib.util
import logging
import os
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from agent import isolated
from agent.app.children.web.console_documents import of_configuration
from agent.app.children.web.document_feed import DocumentFeed
from agent.app.children.web.request_counts import RequestCounts
from agent.app.context import Context
from agent.messages.children import Log, Message
from agent.messages.events import ChildLost, ChildUp, Noticed, Received, Reply
from agent.messages.topics import Topics
from agent.messages.web.control import (
    AskModel,
    CommandAnswered,
    DocumentsTaken,
    OperatorCommand,
    PictureEnd,
    RequestLink,
    RequestsCounted,
    Serving,
    Watching,
    WebClient,
    WebMessage,
    WebSetup,
)
from agent.mqtt.publishing.tapped_publisher import TappedPublisher
from agent.processes.supervisor import ChildSpec, Supervisor
from agent.settings import Settings

_log: Final = logging.getLogger(__name__)
WEB: Final = "web"
ALERT: Final = "web_unavailable"
CONSOLE: Final = "\0console/"
"""Start of the reply topics of the console's commands; no topic of a broker can hold NUL."""
_MODULE: Final = "agent.web.web_process"
_LIBRARIES: Final = ("starlette", "uvicorn", "grpclib", "google.protobuf")
_BEAT_DEADLINE_S: Final = 10.0
_EXTRA: Final = (
    "the extra `web` is not installed: pip install 'changeover[web]', or take [web] out of the configuration"
)
_ENVIRONMENT: Final = {
    "OPENCV_IO_MAX_IMAGE_PIXELS": str(1 << 26),  # because a small file may hold a picture of gigabytes
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}


class WebProcess:
    """Owner of the web process, for the loop's thread.

    `decide` takes events; `receive` a person's command, like one from the broker; `ask_model` has a worker load a model
    for requests.
    """

    def __init__(  # noqa: PLR0913 - what the process is connected with, spelt out
        self,
        settings: Settings,
        topics: Topics,
        supervisor: Supervisor,
        publisher: TappedPublisher,
        *,
        decide: Callable[[Noticed], None],
        receive: Callable[[Received], None],
        ask_model: Callable[[AskModel], None],
        links: tuple[RequestLink, ...] = (),
        pictures: Mapping[str, int] | None = None,
    ) -> None:
        self._settings: Final = settings
        self._topics: Final = topics
        self._supervisor: Final = supervisor
        self._publisher: Final = publisher
        self._decide: Final = decide
        self._receive: Final = receive
        self._ask_model: Final = ask_model
        self._links: Final = links
        self._pictures: Final = tuple(PictureEnd(stream, end) for stream, end in (pictures or {}).items())
        self._is_connected: bool | None = None
        self._watched: frozenset[str] = frozenset()
        self._feed: Final = DocumentFeed(topics.base, self.send)
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
            self._publisher.tap = self._tapped

    def configured(self, context: Context) -> None:
        """Show the console configuration and catalog, at the start and whenever one was read again."""
        if self.is_on:
            for name, document in of_configuration(context.settings, context.catalog.versions):
                self._show(name, document)

    def tick(self, *, is_connected: bool) -> None:
        """Show the console whether the broker is connected, where that changed."""
        if self.is_on and is_connected != self._is_connected:
            self._is_connected = is_connected
            self._show("console/link", msgspec.json.encode({"connected": is_connected}))

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
                self._watch_streams(())
                self.counts.restarted()
                self.port = self.grpc_port = 0
                self._tell(f"the web process is lost: {message.detail}")
            case DocumentsTaken():
                self._feed.taken()
            case Serving():
                self.port, self.grpc_port = message.port, message.grpc_port
                self._tell(message.detail)
            case OperatorCommand():
                _log.info("event=console_command user=%r topic=%r", message.user, message.topic[:200])
                reply = Reply(f"{CONSOLE}{message.number}")
                topic = f"{self._topics.base}/{message.topic}"
                self._receive(Received(topic, message.payload, reply=reply, user=message.user))
            case Watching():
                self._watch_streams(message.streams)
            case AskModel():
                self._ask_model(message)
            case RequestsCounted():
                self.counts.take(message)
            case Log():
                _log.log(logging.getLevelName(message.level), "event=web_told detail=%r", message.text)

    def _show(self, name: str, document: bytes) -> None:
        self._feed.put(f"{self._topics.base}/{name}", document, True)

    def _watch_streams(self, streams: tuple[str, ...]) -> None:
        self._watched = frozenset(self._topics.of_stream(stream, "detections") for stream in streams)
        self._publisher.tap_detections = bool(streams)

    def _tapped(self, topic: str, payload: bytes, is_state: bool) -> None:  # noqa: FBT001 - a tap's call
        if topic in self._watched or not topic.endswith("/detections"):
            self._feed.put(topic, payload, is_state)

    def _tell(self, detail: str) -> None:
        if detail:
            _log.error("event=web_unavailable detail=%r", detail)
        else:
            _log.info("event=web_serving port=%d grpc_port=%d", self.port, self.grpc_port)
        self._decide(Noticed(ALERT, on=bool(detail), detail=detail or None))

    def _spec(self) -> ChildSpec:
        return ChildSpec(
            name=WEB,
            command=self.command,
            incoming=WebMessage,
            setup=lambda: replace(setup_of(self._settings, self._topics.base, self._links), pictures=self._pictures),
            descriptors=(
                *(fd for link in self._links for fd in (link.channel, link.memory)),
                *(one.descriptor for one in self._pictures),
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
