"""Entry of `changeover switch`."""

import time
from dataclasses import dataclass
from typing import Final

import click

from agent.messages.errors import EXIT_OK, MistakeError, TransientError
from agent.messages.texts.printable import printable
from agent.messages.topics import Topics
from agent.mqtt.blocking_client import BlockingClient, BlockingClientError, connected
from agent.mqtt.endpoint.link_settings import for_client
from agent.settings import Settings
from agent.switch.outcome_text import as_json, error_of, late, readable
from agent.switch.progress import Progress
from agent.switch.request import Request, make_request

_KNOWN_WITHIN_S: Final = 3.0
"""Time to wait for retained messages, which come at once; a device without any never used this broker."""
_BROKER_ANSWERS_WITHIN_S: Final = 3.0
_MARGIN_S: Final = 10.0
_TIMEOUT_S: Final = 30.0
"""Timeout for a line that the local configuration lacks, instead of its `changeover_timeout_s`."""


@dataclass(frozen=True)
class Asked:
    """Arguments of the command line."""

    line: str
    text: str
    """A product, or with `is_model` a model reference."""
    is_model: bool = False
    as_json: bool = False
    timeout_s: float | None = None
    """None: the line's own timeout plus a margin."""


def run(settings: Settings, asked: Asked) -> int:
    """Send the request to the configured device, wait for its result, print the report; return 0.

    Prints the report before it raises: MistakeError where somebody has to change something, TransientError where a
    retry may help.
    """
    line = settings.line.get(asked.line)
    products = frozenset(line.products) if line is not None else None
    request = make_request(asked.line, asked.text, is_model=asked.is_model, products=products)
    timeout_s = asked.timeout_s or (line.changeover_timeout_s if line is not None else _TIMEOUT_S) + _MARGIN_S
    topics = Topics(settings.mqtt.root, settings.device.id)
    progress = Progress(topics, request)
    with connected(for_client(settings.mqtt)) as peer:
        peer.subscribe(progress.topics())
        _meet(peer, progress, topics, request)
        progress.sent = True
        peer.publish(f"{topics.base}/line/{request.line}/{request.name}", request.payload)
        is_settled = _follow(peer, progress, topics.device, timeout_s)
        error = error_of(request, progress) if is_settled else _late(peer, request, progress, timeout_s)
    _print(request, progress, is_json=asked.as_json)
    if error is not None:
        raise error
    return EXIT_OK


def _meet(peer: BlockingClient, progress: Progress, topics: Topics, request: Request) -> None:
    """Read the device's retained messages; raise where there is no such device or line."""
    deadline_s = time.monotonic() + _KNOWN_WITHIN_S
    while progress.status is None or progress.lines is None:
        arrival = peer.receive(deadline_s - time.monotonic())
        if arrival is None:
            break
        progress.take(arrival.topic, arrival.payload, retained=arrival.retained)
    if progress.status is None:
        raise TransientError(f"the broker knows nothing of {topics.device} (below {topics.base}): is it running?")
    if progress.status != "online":
        raise TransientError(printable(f"{topics.device} is {progress.status}; nothing was sent"))
    if progress.lines is not None and request.line not in progress.lines:
        has = ", ".join(progress.lines) or "none"
        raise MistakeError(printable(f"{topics.device} has no line {request.line}; it has {has}; nothing was sent"))


def _follow(peer: BlockingClient, progress: Progress, device: str, timeout_s: float) -> bool:
    """Process messages until the request is settled; False after `timeout_s`.

    Raises TransientError where the device goes offline.
    """
    deadline_s = time.monotonic() + timeout_s
    while not progress.is_settled:
        arrival = peer.receive(deadline_s - time.monotonic())
        if arrival is None:
            return False
        progress.take(arrival.topic, arrival.payload, retained=arrival.retained)
        if progress.status != "online":
            raise TransientError(printable(f"{device} is {progress.status or 'gone'} before it was done"))
    return True


def _late(peer: BlockingClient, request: Request, progress: Progress, timeout_s: float) -> TransientError:
    try:
        # because subscribing needs an answer of the broker
        peer.subscribe(progress.topics(), timeout_s=_BROKER_ANSWERS_WITHIN_S)
    except BlockingClientError as error:
        return TransientError(f"{request.line}: the broker is away: {error}")
    return late(request, progress, timeout_s)


def _print(request: Request, progress: Progress, *, is_json: bool) -> None:
    if is_json:
        click.echo(as_json(request, progress))
    elif progress.is_reached or progress.report is not None:
        for line in readable(request, progress):
            click.echo(line)
