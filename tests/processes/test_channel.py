"""Channels: whole messages, of the right kind, or an end."""

import os
import threading
from collections.abc import Iterator

import pytest

from agent.messages.children import (
    Beat,
    CameraMessage,
    CameraSetup,
    Detections,
    Hello,
    InferenceFailed,
    Log,
    Message,
    SwapFailed,
)
from agent.messages.descriptors import SlotDescriptors
from agent.messages.worker import WorkerMessage
from agent.processes.channel import MAX_MESSAGE_BYTES, Channel, ChannelClosedError, MessageTooLargeError, pair
from agent.processes.child import Child

SETUP = CameraSetup("cam-1", "file.avi", 10, loop=True, wait_for_reader=False, slot=SlotDescriptors(3, 4, 5))


@pytest.fixture
def ends() -> Iterator[tuple[Channel[WorkerMessage], Channel[CameraSetup]]]:
    ours, theirs = pair()
    control: Channel[WorkerMessage] = Channel(ours, WorkerMessage, patient=False)
    child: Channel[CameraSetup] = Channel(theirs, CameraSetup)
    yield control, child
    control.close()
    child.close()


def test_messages_arrive_whole_and_in_order(ends: tuple[Channel[WorkerMessage], Channel[CameraSetup]]) -> None:
    control, child = ends
    detections = [
        Detections("cam-1", "a:n@1", number, 5, b'{"x":' + b"1" * number, (("cap", number),)) for number in range(100)
    ]

    def send() -> None:
        for one in detections:
            child.send(one)

    sender = threading.Thread(target=send)
    sender.start()
    assert [control.receive(10) for _ in detections] == detections
    sender.join()
    control.send(SETUP)
    assert child.receive(10) == SETUP


def test_nothing_comes_within_the_time(ends: tuple[Channel[WorkerMessage], Channel[CameraSetup]]) -> None:
    assert ends[0].receive(0.0) is None


def test_the_other_sides_end_is_an_error_of_its_own_kind(
    ends: tuple[Channel[WorkerMessage], Channel[CameraSetup]],
) -> None:
    control, child = ends
    child.send(Beat(7))
    child.close()
    assert control.receive(10) == Beat(7), "what was sent before the end still arrives"
    with pytest.raises(ChannelClosedError, match="closed"):
        control.receive(10)
    with pytest.raises(ChannelClosedError):
        control.send(SETUP)


def test_a_message_of_another_kind_closes(ends: tuple[Channel[WorkerMessage], Channel[CameraSetup]]) -> None:
    control, child = ends
    child.send(SETUP)
    with pytest.raises(ChannelClosedError, match="cannot receive"):
        control.receive(10)


def test_control_never_waits_for_a_child_that_does_not_read(
    ends: tuple[Channel[WorkerMessage], Channel[CameraSetup]],
) -> None:
    control, _ = ends
    with pytest.raises(ChannelClosedError, match="cannot send"):
        _send_for_ever(control)


def _send_for_ever(control: Channel[WorkerMessage]) -> None:
    while True:
        control.send(SETUP)


def test_the_longest_message_fits_in_the_sockets_buffer() -> None:
    ours, theirs = pair()
    control: Channel[CameraMessage] = Channel(ours, CameraMessage)
    with theirs:
        theirs.send(os.urandom(MAX_MESSAGE_BYTES))
        with pytest.raises(ChannelClosedError):
            control.receive(10)
    control.close()


@pytest.mark.parametrize("size", [MAX_MESSAGE_BYTES, 10 * MAX_MESSAGE_BYTES])
def test_a_message_that_no_channel_carries_ends_none(
    ends: tuple[Channel[WorkerMessage], Channel[CameraSetup]], size: int
) -> None:
    control, child = ends
    with pytest.raises(MessageTooLargeError, match="a Detections of"):
        child.send(Detections("cam-1", "a:n@1", 1, 5, b"x" * size, ()))
    child.send(Beat(7))
    assert control.receive(10) == Beat(7)


@pytest.mark.parametrize(
    "message",
    [
        Log("WARNING", "x" * MAX_MESSAGE_BYTES),
        InferenceFailed("cam-1", "a:n@1", 1, "x" * 10 * MAX_MESSAGE_BYTES),
        SwapFailed("line-1", 1, "a:n@1", None, "load_failed", "x" * MAX_MESSAGE_BYTES),
    ],
)
def test_a_childs_words_of_any_length_arrive(
    ends: tuple[Channel[WorkerMessage], Channel[CameraSetup]], message: Message
) -> None:
    control, end = ends
    child: Child[CameraSetup] = Child(end)
    child.send(message)
    said = control.receive(10)
    assert type(said) is type(message)
    words = getattr(said, "detail", getattr(said, "text", ""))
    assert 1000 < len(words) < MAX_MESSAGE_BYTES
    child.send(Hello(1, {}))
    assert control.receive(10) == Hello(1, {})
