"""The supervisor and its loop, with children that really die, freeze, hang and flood."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.waiting import DEADLINE_S

from agent.messages.children import CameraMessage, CameraOpened, CameraSetup, Hello, LogSetup, Message
from agent.messages.descriptors import SlotDescriptors
from agent.messages.events import ChildHung, ChildLost, ChildUp
from agent.processes.loop import Loop
from agent.processes.supervisor import ChildSpec, Supervisor

TESTS = Path(__file__).parents[1]


class Post:
    """A loop with a supervisor, and everything that its children said."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.said: list[tuple[str, Message]] = []
        self.supervisor = Supervisor(self.loop, lambda child, message: self.said.append((child, message)))

    def start(
        self,
        source: str,
        *,
        beat_deadline_s: float = 30.0,
        busy_deadline_s: float = 30.0,
        setup: Callable[[], Message] | None = None,
    ) -> None:
        usual = CameraSetup("cam", source, 1, loop=False, wait_for_reader=False, slot=SlotDescriptors(0, 0, 0))
        spec = ChildSpec(
            name=source,
            command=(sys.executable, "-I", str(TESTS / "support" / "odd_child.py")),
            incoming=CameraMessage,
            setup=setup or (lambda: usual),
            descriptors=(),
            beat_deadline_s=beat_deadline_s,
            busy_deadline_s=busy_deadline_s,
        )
        self.supervisor.start(spec)

    def until(self, is_done: Callable[[], object]) -> None:
        limit_s = time.monotonic() + DEADLINE_S
        while not is_done():
            assert time.monotonic() < limit_s, self.said[-5:]
            self.loop.run_once(0.05, lambda _event: None)
            self.supervisor.tick(time.monotonic())

    def heard(self, kind: type[Message], child: str | None = None) -> list[Message]:
        return [message for name, message in self.said if isinstance(message, kind) and child in {None, name}]


@pytest.fixture
def post() -> Iterator[Post]:
    before = set(psutil.Process().children())  # of fixtures that several tests share
    post = Post()
    yield post
    post.supervisor.stop()
    post.loop.close()
    assert set(psutil.Process().children()) <= before, "no child is left behind"


def has_ended(pid: int) -> bool:
    """Say whether a process has ended, reaped or not."""
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_child_gets_its_setup_and_is_heard(post: Post) -> None:
    post.start("work")
    post.until(lambda: post.heard(CameraOpened))
    assert [type(message) for _, message in post.said] == [Hello, ChildUp, CameraOpened]
    assert post.supervisor.beat_age_s("work", time.monotonic()) is not None


def test_nothing_reaches_a_child_before_its_setup(post: Post) -> None:
    """A worker ends where its first message is another one, such as a recall that its set-up brought about."""
    sent: list[bool] = []
    setup = CameraSetup("cam", "work", 1, loop=False, wait_for_reader=False, slot=SlotDescriptors(0, 0, 0))

    def made() -> Message:
        sent.append(post.supervisor.send("work", LogSetup("debug")))
        return setup

    post.start("work", setup=made)
    post.until(lambda: post.heard(CameraOpened) or post.heard(ChildLost))
    assert not post.heard(ChildLost)
    assert sent == [False]


def test_a_message_that_is_too_large_for_a_child_costs_no_child(post: Post) -> None:
    post.start("work")
    post.until(lambda: post.heard(CameraOpened))
    pid = post.supervisor.pid("work")
    wide = CameraSetup("x", "x" * 1_000_000, 0, loop=False, wait_for_reader=False, slot=SlotDescriptors(0, 0, 0))
    assert not post.supervisor.send("work", wide)
    assert post.supervisor.pid("work") == pid
    assert not post.heard(ChildLost)


def test_a_message_to_all_reaches_each_child_that_is_up(post: Post) -> None:
    post.start("level")
    post.until(lambda: post.heard(ChildUp))
    post.supervisor.send_to_all(LogSetup("debug"))
    post.until(lambda: post.heard(CameraOpened))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_child_is_an_event_and_comes_back(post: Post, number: signal.Signals) -> None:
    post.start("work")
    post.until(lambda: post.heard(CameraOpened))
    pid = post.supervisor.pid("work")
    assert pid is not None
    os.kill(pid, number)
    post.until(lambda: len(post.heard(CameraOpened)) == 2)
    lost = post.heard(ChildLost)
    assert len(lost) == 1
    assert isinstance(lost[0], ChildLost)
    assert f"exit code {-number}" in lost[0].detail
    assert post.supervisor.pid("work") != pid


def test_a_child_that_ends_by_itself_is_started_again_with_its_exit_code_said(post: Post) -> None:
    post.start("exit")
    post.until(lambda: len(post.heard(ChildLost)) >= 3)
    lost = post.heard(ChildLost)[0]
    assert isinstance(lost, ChildLost)
    assert "exit code 7" in lost.detail


def test_a_process_that_cannot_be_had_is_tried_again_and_ends_nobody(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, popen = [errno.ENOMEM, errno.EAGAIN], subprocess.Popen
    descriptors = psutil.Process().num_fds()

    def scarce(*arguments: Any, **named: Any) -> "subprocess.Popen[bytes]":  # noqa: ANN401 - as Popen takes them
        if left:
            raise OSError(left.pop(), "not now")
        assert psutil.Process().num_fds() <= descriptors + 3
        return popen(*arguments, **named)

    monkeypatch.setattr("agent.processes.supervisor.subprocess.Popen", scarce)
    post.start("work")
    post.until(lambda: post.heard(CameraOpened))
    assert not left
    assert [type(message) for _, message in post.said] == [Hello, ChildUp, CameraOpened]


def test_a_frozen_child_is_killed_when_its_beat_is_due(post: Post) -> None:
    post.start("stop", beat_deadline_s=1.0)
    post.until(lambda: post.heard(ChildLost))
    assert post.heard(ChildHung)


def test_the_loop_never_waits_for_a_child_that_it_kills_and_starts_the_next_once_that_is_gone(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(process: "subprocess.Popen[bytes]", timeout: float) -> int:
        raise AssertionError(f"waited {timeout} s for {process.args!r}")

    is_gone, poll = threading.Event(), subprocess.Popen.poll
    post.start("work")
    post.until(lambda: post.heard(CameraOpened))
    killed = post.supervisor.pid("work")
    with monkeypatch.context() as patch:
        patch.setattr(subprocess.Popen, "wait", wait)
        patch.setattr(subprocess.Popen, "poll", lambda one: poll(one) if is_gone.is_set() else None)
        post.supervisor.restart("work", "for a test")
        (lost,) = post.heard(ChildLost)
        assert isinstance(lost, ChildLost)
        assert lost.detail.startswith("for a test (killed); starts again in")
        after_backoff_s = time.monotonic() + 1.0
        post.supervisor.tick(after_backoff_s)
        assert post.supervisor.pid("work") is None, "because the one before may hold a camera and memory"
        is_gone.set()

        def is_followed() -> bool:  # not at once: a process of several threads is reaped once the last of them is gone
            post.supervisor.tick(after_backoff_s)
            return post.supervisor.pid("work") not in {None, killed}

        post.until(is_followed)


def test_a_child_that_cannot_be_killed_is_followed_after_a_while(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    post.start("work")
    post.until(lambda: post.heard(CameraOpened))
    with monkeypatch.context() as patch:
        patch.setattr(subprocess.Popen, "poll", lambda _: None)
        post.supervisor.restart("work", "for a test")
        post.supervisor.tick(time.monotonic() + 60.0)
        assert post.supervisor.pid("work") is not None


def test_a_child_that_hangs_in_one_call_is_killed_though_it_beats(post: Post) -> None:
    post.start("hang", busy_deadline_s=1.0)
    post.until(lambda: post.heard(ChildLost))
    hung = post.heard(ChildHung)[0]
    assert isinstance(hung, ChildHung)
    assert "one call" in hung.detail


def test_a_call_that_usually_takes_long_is_not_a_hang_within_its_grace(post: Post) -> None:
    post.start("slow", busy_deadline_s=0.5)
    post.until(lambda: post.heard(CameraOpened))
    assert not post.heard(ChildHung)


def test_a_flooding_child_does_not_starve_another(post: Post) -> None:
    post.start("flood")
    post.until(lambda: len(post.said) > 1000)
    post.start("work")
    post.until(lambda: post.heard(CameraOpened, "work"))


def test_children_end_with_the_channel_even_without_a_word(post: Post) -> None:
    post.start("work")
    post.until(lambda: post.heard(CameraOpened))
    pid = post.supervisor.pid("work")
    assert pid is not None
    post.supervisor.stop()
    assert not psutil.pid_exists(pid)


def test_children_that_cannot_be_killed_are_waited_for_together(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    waits_s: list[float] = []
    stuck: set[subprocess.Popen[bytes]] = set()

    def wait(process: "subprocess.Popen[bytes]", timeout: float) -> int:
        waits_s.append(timeout)
        stuck.add(process)
        now_s[0] += timeout
        raise subprocess.TimeoutExpired(process.args, timeout)

    sources = ("work", "level", "slow")
    for source in sources:
        post.start(source)
    post.until(lambda: len(post.heard(ChildUp)) == len(sources))
    post.supervisor.end("slow")
    with monkeypatch.context() as patch:
        now_s = [time.monotonic()]
        patch.setattr("agent.processes.supervisor.time.monotonic", lambda: now_s[0])
        patch.setattr(subprocess.Popen, "wait", wait)
        patch.setattr(subprocess.Popen, "poll", lambda _: None)
        post.supervisor.stop()
    assert sum(waits_s) == pytest.approx(3.0)
    assert len(stuck) == len(sources)
    for process in stuck:
        process.wait(DEADLINE_S)


def test_a_child_that_ends_for_good_is_gone_once_what_was_killed_before_is_reaped(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    post.start("work")
    post.until(lambda: post.heard(CameraOpened))
    killed = post.supervisor.pid("work")
    assert killed is not None
    with monkeypatch.context() as patch:
        patch.setattr(subprocess.Popen, "poll", lambda _: None)
        post.supervisor.restart("work", "for a test")
        post.supervisor.end("work")
        post.supervisor.tick(time.monotonic())
        assert post.supervisor._ending, "because the destructor of its Popen may leave it a zombie"
    post.until(lambda: not post.supervisor._ending)
    assert not psutil.pid_exists(killed)


def test_the_loop_takes_events_from_threads_and_signal_handlers_in_order() -> None:
    loop = Loop()
    got: list[object] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _frame: loop.put(number))
    try:
        threads = [threading.Thread(target=_put_numbers, args=(loop,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        os.kill(os.getpid(), signal.SIGUSR1)
        limit_s = time.monotonic() + DEADLINE_S
        while len(got) < 4001:
            assert time.monotonic() < limit_s
            loop.run_once(1.0, got.append)
        for thread in threads:
            thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
        loop.close()
    assert Counter(got) == Counter([*range(1000)] * 4 + [int(signal.SIGUSR1)])


def _put_numbers(loop: Loop) -> None:
    for number in range(1000):
        loop.put(number)


def test_a_child_that_is_ended_goes_for_good_and_may_be_started_anew(post: Post) -> None:
    post.start("stop")
    post.until(lambda: post.supervisor.pid("stop"))
    first = psutil.Process(post.supervisor.pid("stop"))
    post.supervisor.end("stop")
    post.start("work")
    post.until(lambda: not first.is_running() and post.heard(CameraOpened, "work"))
    assert not post.heard(ChildLost)
