"""Supervisor of control's children: starts them, reads their messages, restarts dead or hung ones.

There is one recovery path: a child that died, hung or was asked to restart is killed where it still runs, reported as
ChildLost, and started again after a backoff with full jitter, once it is reaped or takes too long for that. All of it
runs on control's loop, which waits for no child that it kills, and 0.2 s at most for one that closed its channel.
"""

import logging
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Final

from agent import isolated
from agent.messages.children import Beat, Hello, Message
from agent.messages.events import ChildHung, ChildLost, ChildUp
from agent.processes.backoff import Backoff
from agent.processes.channel import Channel, ChannelClosedError, MessageTooLargeError, pair
from agent.processes.loop import Loop

_log: Final = logging.getLogger(__name__)
_READ_BATCH: Final = 128
_STEADY_S: Final = 30.0
"""A child that ran this long resets its backoff."""
_EXIT_PATIENCE_S: Final = 0.1
"""Wait before SIGKILL, because a process that closed its channel is about to exit with a code that says more."""
_LAST_PATIENCE_S: Final = 2.0
"""Wait for all that are killed at the stop, for one that ends for good until it is killed, and for a killed one beyond
the backoff; then the next is started beside it, because one that is stuck in the kernel never dies."""
_HELLO_DEADLINE_S: Final = 30.0
"""Time for a new child to send Hello; long, because imports from cold flash are slow."""


@dataclass(frozen=True)
class ChildSpec:
    """Start command and watchdog deadlines of one child."""

    name: str
    command: tuple[str, ...]
    """Command line, to which the number of the channel's descriptor is appended."""
    incoming: Any
    """Union of the message types that the child may send."""
    setup: Callable[[], Message]
    """Returns the first message to the child; called at each start."""
    descriptors: tuple[int, ...]
    """Further descriptors that the child inherits."""
    beat_deadline_s: float
    """Time since the last message or heartbeat after which the child is killed."""
    busy_deadline_s: float
    """Duration of the child's present call after which the child is killed."""
    environment: Mapping[str, str] | None = None
    started: Callable[[int], None] | None = None
    """Called with the id of each new process, before it gets its first message."""


@dataclass(frozen=True)
class Call:
    """A child's oldest call that could hang, as its last heartbeat tells."""

    since_s: float = 0.0
    """Begin (monotonic, s), later by its grace; 0 without a call."""
    is_request: bool = False
    told_s: float = 0.0
    """Arrival of the heartbeat (monotonic, s)."""


class Supervisor:
    """Owner of a loop's children; `on_message(child, message)` receives their messages and the Child* events."""

    def __init__(self, loop: Loop, on_message: Callable[[str, Message], None]) -> None:
        self._loop: Final = loop
        self._on_message: Final = on_message
        self._children: Final[dict[str, _Child]] = {}
        self._ending: Final[list[tuple[_Child, float]]] = []
        """Children that end for good, with the time at which each is killed (monotonic, s)."""

    def start(self, spec: ChildSpec) -> None:
        """Start a child, and restart it whenever it is lost, until `stop`."""
        child = self._children[spec.name] = _Child(spec, self._loop, self._on_message)
        child.spawn()

    def send(self, name: str, message: Message) -> bool:
        """Send to a child; False where it is down, which is harmless: `setup` tells a new one the desired state."""
        return self._children[name].send(message)

    def send_to_all(self, message: Message) -> None:
        """Send to every child that is up; one that comes up later is told by who handles its ChildUp."""
        for child in tuple(self._children.values()):
            child.send(message)

    def end(self, name: str) -> None:
        """End a child for good; returns at once, and `tick` reaps it, killed where it does not end by itself."""
        child = self._children.pop(name)
        child.close()
        self._ending.append((child, time.monotonic() + _LAST_PATIENCE_S))

    def restart(self, name: str, detail: str) -> None:
        """Kill a child, which is then restarted after a backoff; `detail` is the reason for the log."""
        self._children[name].kill(detail)

    def pid(self, name: str) -> int | None:
        """Return a child's process id; None while it is down."""
        return self._children[name].pid

    def ending(self, name: str) -> list[int]:
        """Return the ids of a child's killed processes that the kernel has not ended yet, nor taken their memory."""
        return self._children[name].ending()

    def beat_age_s(self, name: str, now_s: float) -> float | None:
        """Return the seconds since a child's last message, or of its present call if longer; None while it is down."""
        return self._children[name].silent_s(now_s)

    def call(self, name: str) -> Call:
        """Return the call of a child that its last heartbeat told."""
        return self._children[name].call

    def tick(self, now_s: float) -> None:
        """Kill hung children and start those whose backoff has passed; call it at least every 0.25 s."""
        for child in list(self._children.values()):
            child.tick(now_s)
        self._ending[:] = [(child, kill_s) for child, kill_s in self._ending if not child.is_gone(now_s >= kill_s)]

    def stop(self) -> None:
        """Close all channels, which ends the children; kill those still alive after a second; takes 3 s at most."""
        for child in self._children.values():
            child.close()
        deadline_s = time.monotonic() + 1.0
        ending = [*self._children.values(), *(child for child, _ in self._ending)]
        for child in ending:
            child.give_up(deadline_s)
        deadline_s = time.monotonic() + _LAST_PATIENCE_S
        for child in ending:
            child.reap_killed(deadline_s)
        self._ending.clear()
        self._children.clear()


class _Child:
    def __init__(self, spec: ChildSpec, loop: Loop, on_message: Callable[[str, Message], None]) -> None:
        self._spec: Final = spec
        self._loop: Final = loop
        self._on_message: Final = on_message
        self._backoff: Final = Backoff(0.25, 10.0)
        self._process: subprocess.Popen[bytes] | None = None
        self._killed: list[subprocess.Popen[bytes]] = []
        """Processes that were killed and are not reaped yet: a large one takes a while to free its memory."""
        self._channel: Channel[Any] | None = None
        self._is_up = False
        self._spawned_s = 0.0
        self._last_beat_s = 0.0
        self.call = Call()
        self._start_again_s: float | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def spawn(self) -> None:
        self._start_again_s = None
        self._is_up = False
        self._spawned_s = self._last_beat_s = time.monotonic()
        self.call = Call()
        try:
            ours = self._start_process()
        except OSError as error:  # out of memory or descriptors, which control must survive
            # Without ChildLost, because the loss of the previous process was reported already.
            self._start_again(f"cannot be started: {error}")
            return
        if self._spec.started is not None and self._process is not None:
            self._spec.started(self._process.pid)
        setup = self._spec.setup()  # before there is a channel, because what it brings about must not come first
        self._channel = Channel(ours, self._spec.incoming, patient=False)
        self._loop.register(ours.fileno(), read=self._read)
        self.send(setup)

    def _start_process(self) -> socket.socket:
        """Start the process; return control's end of its channel."""
        self._reap_killed()
        ours, theirs = pair()
        with ExitStack() as undo:
            undo.callback(ours.close)
            with theirs:
                self._process = subprocess.Popen(
                    [*self._spec.command, str(theirs.fileno())],
                    cwd=isolated.FOLDER,
                    pass_fds=(theirs.fileno(), *self._spec.descriptors),
                    stdin=subprocess.DEVNULL,
                    env=self._spec.environment,
                )
            undo.pop_all()
        return ours

    def send(self, message: Message) -> bool:
        if self._channel is None:
            return False
        try:
            self._channel.send(message)
        except MessageTooLargeError as error:  # not restarted, because a new child would be sent the same
            _log.error("event=message_not_sent child=%r detail=%r", self._spec.name, str(error))
            return False
        except ChannelClosedError as error:
            self.lose(str(error))
            return False
        return True

    def silent_s(self, now_s: float) -> float | None:
        if not self._is_up:
            return None
        busy_s = now_s - self.call.since_s if self.call.since_s else 0.0
        return max(now_s - self._last_beat_s, busy_s)

    def tick(self, now_s: float) -> None:
        if self._channel is None:
            if self._start_again_s is not None and now_s >= self._start_again_s and self._has_room(now_s):
                self.spawn()
            return
        detail = self._hang(now_s)
        if detail:
            self._on_message(self._spec.name, ChildHung(self._spec.name, detail))
            self.kill(detail)

    def lose(self, detail: str) -> None:
        """Report a child that has closed its channel."""
        if self._channel is None:
            return
        self.close()
        self._lost(f"{detail} (exit code {self.reap(_EXIT_PATIENCE_S)})")

    def kill(self, detail: str) -> None:
        """End a child that runs, and wait for nothing: a large one takes long to free its memory."""
        if self._channel is None:
            return
        self.close()
        if self._process is not None:
            self._process.kill()
            self._killed.append(self._process)
            self._process = None
        self._lost(f"{detail} (killed)")

    def _lost(self, detail: str) -> None:
        self._on_message(self._spec.name, ChildLost(self._spec.name, self._start_again(detail)))

    def _start_again(self, detail: str) -> str:
        if time.monotonic() - self._spawned_s > _STEADY_S:
            self._backoff.reset()
        wait_s = self._backoff.next_s()
        self._start_again_s = time.monotonic() + wait_s
        detail = f"{detail}; starts again in {wait_s:.2f} s"
        _log.warning("event=child_lost child=%r detail=%r", self._spec.name, detail)
        return detail

    def close(self) -> None:
        if self._channel is not None:
            self._loop.unregister(self._channel.fileno())
            self._channel.close()
            self._channel = None
            self._is_up = False

    def give_up(self, deadline_s: float) -> None:
        """Kill the process that has not ended by itself by then (monotonic, s); for `reap_killed`."""
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(max(0.0, deadline_s - time.monotonic()))
            self._process.kill()  # which does nothing to one that was reaped
            self._killed.append(self._process)
            self._process = None

    def reap(self, patience_s: float) -> int | None:
        self._reap_killed()
        if self._process is None:
            return None
        try:
            code = self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            code = None
        if code is None:
            # SIGKILL, because it ends a stopped process too; only one stuck in the kernel outlives the wait.
            self._process.kill()
            try:
                code = self._process.wait(_EXIT_PATIENCE_S)
            except subprocess.TimeoutExpired:
                _log.error("event=child_stuck child=%r pid=%d", self._spec.name, self._process.pid)
                self._killed.append(self._process)
        self._process = None
        return code

    def reap_killed(self, deadline_s: float) -> None:
        """Wait until then (monotonic, s) for the processes that were killed."""
        for process in self._killed:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline_s - time.monotonic()))
        self._reap_killed()
        for process in self._killed:
            _log.error("event=child_stuck child=%r pid=%d", self._spec.name, process.pid)

    def ending(self) -> list[int]:
        self._reap_killed()
        return [process.pid for process in self._killed]

    def _has_room(self, now_s: float) -> bool:
        """Return True once killed processes have given back memory and device, or take too long for it."""
        self._reap_killed()
        is_late = self._start_again_s is not None and now_s - self._start_again_s > _LAST_PATIENCE_S
        if self._killed and is_late:
            _log.error("event=child_stuck child=%r pid=%d", self._spec.name, self._killed[-1].pid)
        return not self._killed or is_late

    def _reap_killed(self) -> None:
        self._killed = [one for one in self._killed if one.poll() is None]

    def is_gone(self, is_late: bool) -> bool:  # noqa: FBT001 - one caller
        """Return True once the ended process, and all that were killed before, are reaped; kill it where `is_late`."""
        self._reap_killed()
        if self._process is not None and self._process.poll() is not None:
            self._process = None
        if self._process is not None and is_late:
            self._process.kill()
        return self._process is None and not self._killed

    def _hang(self, now_s: float) -> str | None:
        if not self._is_up:
            late = now_s - self._spawned_s > _HELLO_DEADLINE_S
            return f"no hello within {_HELLO_DEADLINE_S:.0f} s" if late else None
        if now_s - self._last_beat_s > self._spec.beat_deadline_s:
            return f"no beat for {now_s - self._last_beat_s:.1f} s"
        if self.call.since_s and now_s - self.call.since_s > self._spec.busy_deadline_s:
            return f"one call has lasted {now_s - self.call.since_s:.1f} s"
        return None

    def _read(self) -> None:
        for _ in range(_READ_BATCH):
            if self._channel is None:
                return
            try:
                message = self._channel.receive(0.0)
            except ChannelClosedError as error:
                self.lose(str(error))
                return
            if message is None:
                return
            self._take(message)

    def _take(self, message: Message) -> None:
        self._last_beat_s = time.monotonic()
        match message:
            case Beat():
                self.call = Call(message.busy_since_ns / 1e9, message.is_request, self._last_beat_s)
                if message.streams:
                    self._on_message(self._spec.name, message)
            case Hello():
                self._is_up = True
                _log.info("event=child_up child=%r pid=%d", self._spec.name, message.pid)
                self._on_message(self._spec.name, message)
                self._on_message(self._spec.name, ChildUp(self._spec.name))
            case _:
                self._on_message(self._spec.name, message)
