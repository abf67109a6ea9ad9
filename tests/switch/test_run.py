"""`changeover switch` and a device that does not do its part: told by a client that only pretends to be one."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import pytest
from support.brokers import Mosquitto, settings_of
from support.plant_told import BASE, meta

from agent.messages.errors import MistakeError, TransientError
from agent.mqtt.blocking_client import BlockingClient, connected
from agent.settings import Settings
from agent.switch.switch_command import Asked, run

ASKED = Asked("line-1", "17", timeout_s=600)
PRODUCT_SET = f"{BASE}/line/line-1/product/set"


def settings(broker: Mosquitto) -> Settings:
    return Settings.model_validate({"device": {"id": "box-7"}, "mqtt": {"url": broker.url}})


@contextmanager
def pretended(broker: Mosquitto, answer: Callable[[BlockingClient, str], None]) -> Iterator[None]:
    """Say of a device that it is online, and `answer` the first command (called with its id)."""
    with connected(settings_of(broker.url)) as peer:
        peer.subscribe([PRODUCT_SET])
        peer.publish(f"{BASE}/status", "online", retain=True)
        peer.publish(f"{BASE}/meta", msgspec.json.encode(meta({"line-1": ["cam-1"]})), retain=True)
        peer.publish(f"{BASE}/line/line-1/ready", "17", retain=True)

        def wait() -> None:
            heard = peer.receive(60)
            assert heard is not None
            answer(peer, msgspec.json.decode(heard.payload)["id"])

        thread = threading.Thread(target=wait)
        thread.start()
        yield
        thread.join(60)


def ack(peer: BlockingClient, id_: str, result: str, reason: str | None = None) -> None:
    said = {"id": id_, "topic": PRODUCT_SET, "result": result, "reason": reason, "detail": "\x1b[2Jwhy"}
    peer.publish(f"{BASE}/ack", msgspec.json.encode(said))


def test_nobody_behind_an_old_online(mosquitto: Mosquitto) -> None:
    with (
        pretended(mosquitto, lambda _peer, _id: None),
        pytest.raises(TransientError, match=r"no answer within 2 s, though its status is online"),
    ):
        run(settings(mosquitto), Asked("line-1", "17", timeout_s=2))


def test_a_device_that_goes_in_the_middle_is_said_at_once(mosquitto: Mosquitto) -> None:
    def go(peer: BlockingClient, id_: str) -> None:
        ack(peer, id_, "accepted")
        peer.publish(f"{BASE}/status", "offline", retain=True)

    with pretended(mosquitto, go), pytest.raises(TransientError, match="box-7 is offline before it was done"):
        run(settings(mosquitto), ASKED)


def test_a_broker_that_dies_in_the_middle_is_said(mosquitto: Mosquitto) -> None:
    def accept_and_kill(peer: BlockingClient, id_: str) -> None:
        # once the broker has acknowledged this, it has acknowledged the command before
        ack(peer, id_, "accepted")
        mosquitto.kill()

    with (
        pretended(mosquitto, accept_and_kill),
        pytest.raises(TransientError, match="line-1: the broker is away"),
    ):
        run(settings(mosquitto), Asked("line-1", "17", timeout_s=6))  # it is asked for when the time is up


def test_an_answer_that_is_not_ours_does_not_end_it_and_ours_does(
    mosquitto: Mosquitto, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(peer: BlockingClient, id_: str) -> None:
        ack(peer, "somebody-else", "rejected", "unknown_product")
        ack(peer, id_, "noop")

    with pretended(mosquitto, answer):
        assert run(settings(mosquitto), ASKED) == 0
    assert capsys.readouterr().out.startswith("line-1: ready for 17, as it was already\n")


def test_an_error_is_one_line_and_harmless_to_a_terminal(mosquitto: Mosquitto) -> None:
    with (
        pretended(mosquitto, lambda peer, id_: ack(peer, id_, "failed", "proof_failed")),
        pytest.raises(MistakeError) as caught,
    ):
        run(settings(mosquitto), ASKED)
    assert str(caught.value) == "line-1: failed, proof_failed: \N{REPLACEMENT CHARACTER}[2Jwhy"


def test_a_password_file_that_cannot_be_read_is_a_mistake(mosquitto: Mosquitto) -> None:
    mqtt = {"url": mosquitto.url, "username": "u", "password_file": "/nonexistent/password"}
    configured = Settings.model_validate({"device": {"id": "box-7"}, "mqtt": mqtt})
    with pytest.raises(MistakeError, match="password_file"):
        run(configured, ASKED)
