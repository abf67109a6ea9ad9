"""Broker check: connection, round trip, and access rights on each topic."""

import secrets
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Final, ParamSpec

from agent.control.inputs import routes
from agent.doctor.finding import Finding, fail, note, ok
from agent.messages.errors import MistakeError
from agent.messages.topics import Topics
from agent.mqtt.blocking_client import BlockingClient, BlockingClientError
from agent.mqtt.embedded import find_mosquitto
from agent.mqtt.endpoint.link_settings import LinkSettings, tls_of
from agent.settings import Settings

Arguments = ParamSpec("Arguments")

_SLOW_MS: Final = 20.0
"""A broker in the plant's network answers in 1 to 5 ms; one that delays small packets, in 40 to 80."""
_ROUNDS: Final = 7
_RETAINED_S: Final = 1.0


def try_broker(settings: Settings) -> Iterator[Finding]:
    """Check the broker under a client id of its own, so that a running agent stays connected."""
    where = f"{settings.mqtt.host}:{settings.mqtt.port}"
    if settings.mqtt.embedded:
        if find_mosquitto() is None:
            yield fail("broker", "embedded, but mosquitto is missing: apt-get install mosquitto, or set mqtt.url")
        else:
            yield note("broker", "embedded: the agent starts a mosquitto of its own, for a trial only")
        return
    try:
        peer = _connect(settings)
    except MistakeError as error:
        yield fail("broker", str(error))
        return
    except BlockingClientError as error:
        yield fail("broker", f"{error}; check mqtt.url, the network, username and password_file, and the broker's log")
        return
    try:
        yield ok("broker", f"connected to {where} with MQTT {peer.protocol}{', TLS' if settings.mqtt.tls else ''}")
        topics = Topics(settings.mqtt.root, settings.device.id)
        yield _round_trip(peer, topics)
        yield _may_listen(peer, settings, topics)
        yield _may_speak(peer, settings, topics)
    finally:
        peer.close()


def _connect(settings: Settings) -> BlockingClient:
    """Connect, with MQTT 5 where possible because only version 5 reports a refused publish."""
    mqtt = settings.mqtt
    password = mqtt.password()
    error: BlockingClientError | None = None
    for protocol in ("5", "3.1.1") if mqtt.protocol == "auto" else (mqtt.protocol,):
        peer = BlockingClient(
            LinkSettings(
                host=mqtt.host,
                port=mqtt.port,
                client_id=f"changeover-doctor-{secrets.token_hex(4)}",
                tls=tls_of(mqtt),
                username=mqtt.username or None,
                password=password.encode() if password is not None else None,
                protocol=protocol,
                keepalive_s=mqtt.keepalive_s,
            )
        )
        try:
            peer.connect()
        except BlockingClientError as refused:
            error = refused
        else:
            return peer
    assert error is not None, "there is at least one protocol"
    raise error


def _round_trip(peer: BlockingClient, topics: Topics) -> Finding:
    subject = "broker round trip"
    times_ms = []
    try:
        peer.subscribe([topics.ping])
        for _ in range(_ROUNDS):
            begun_s = time.monotonic()
            peer.publish(topics.ping, "doctor")
            if peer.receive(5.0) is None:
                return note(subject, f"no echo on {topics.ping}: may this user read and write it?")
            times_ms.append((time.monotonic() - begun_s) * 1000)
    except BlockingClientError as error:
        return fail(subject, f"{error}; give this user the right to read and write {topics.ping}")
    middle_ms = statistics.median(times_ms)
    if middle_ms > _SLOW_MS:
        advice = "if the broker is a mosquitto, `set_tcp_nodelay true` in its configuration makes it about 1 ms"
        return note(subject, f"{middle_ms:.1f} ms, which is slow; {advice}")
    return ok(subject, f"{middle_ms:.1f} ms")


def _may_listen(peer: BlockingClient, settings: Settings, topics: Topics) -> Finding:
    commands = routes.filters(topics.base, (binding.topic for binding in settings.binding))
    wanted = [*commands, *topics.swept, topics.ping]
    refused = [topic for topic in wanted if _is_refused(peer.subscribe, [topic])]
    if refused:
        return fail("rights to read", f"refused: {', '.join(refused)}; give them to this user in the broker's rules")
    return ok("rights to read", f"{len(wanted)} topics")


def _may_speak(peer: BlockingClient, settings: Settings, topics: Topics) -> Finding:
    """Publish a harmless message to each topic that the agent publishes, only while the agent is offline.

    Nothing is retained; a line's topics, which a PLC reads, get `0`, and the others an empty payload.
    """
    subject = "rights to write"
    if _is_online(peer, topics):
        return ok(subject, "the agent itself is online with this broker; not tried beside it")
    wanted = topics.published(settings.line, [stream.id for stream in settings.stream])
    of_lines = f"{topics.base}/line/"
    refused = [
        topic for topic in wanted if _is_refused(peer.publish, topic, b"0" if topic.startswith(of_lines) else b"")
    ]
    if refused:
        return fail(subject, f"refused: {', '.join(refused)}; give them to this user in the broker's rules")
    if peer.protocol != "5":
        return note(subject, "MQTT 3.1.1 does not say when a publish is not allowed: see the broker's rules")
    return ok(subject, f"{len(wanted)} topics")


def _is_refused(call: Callable[Arguments, None], *arguments: Arguments.args, **named: Arguments.kwargs) -> bool:
    try:
        call(*arguments, **named)
    except BlockingClientError:
        return True
    return False


def _is_online(peer: BlockingClient, topics: Topics) -> bool:
    try:
        peer.subscribe([topics.status])
    except BlockingClientError:
        return False
    return any(one.topic == topics.status and one.payload == b"online" for one in peer.arrivals(_RETAINED_S))
