"""Supervisor of control's children: starts them, reads their messages, restarts dead or hung ones.

There is one recovery path: a child that died, hung or was asked to restart is killed, reaped, reported as ChildLost,
and started again after a backoff with full jitter. All of it runs on control's loop, which never waits for a child.
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
"""Wait for a killed child at the stop; longer, because no loop waits then, and a busy machine is slow to kill."""
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

    def beat_age_s(self, name: str, now_s: float) -> float | None:
        """Return the seconds since a child's last message, or of its present call if longer; None while it is down."""
        return self._children[name].silent_s(now_s)

    def busy_since_s(self, name: str) -> float:
        """Return when a child's present call began (monotonic, s), later by its grace; 0 without one."""
        return self._children[name].busy_since_s

    def tick(self, now_s: float) -> None:
        """Kill hung children and start those whose backoff has passed; call it at least every 0.25 s."""
        for child in list(self._children.values()):
            child.tick(now_s)
        self._ending[:] = [(child, kill_s) for child, kill_s in self._ending if not child.is_gone(now_s >= kill_s)]

    def stop(self) -> None:
        """Close all channels, which ends the children; kill those still alive after a second."""
        for child in self._children.values():
            child.close()
        for child, _ in self._ending:
            child.reap(0.0, _LAST_PATIENCE_S)
        self._ending.clear()
        deadline_s = time.monotonic() + 1.0
        for child in self._children.values():
            child.reap(max(0.0, deadline_s - time.monotonic()), _LAST_PATIENCE_S)
            child.reap_killed(_LAST_PATIENCE_S)
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
        self.busy_since_s = 0.0
        self._start_again_s: float | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def spawn(self) -> None:
        self._start_again_s = None
        self._is_up = False
        self._spawned_s = self._last_beat_s = time.monotonic()
        self.busy_since_s = 0.0
        try:
            ours = self._start_process()
        except OSError as error:  # out of memory or descriptors, which control must survive
            # Without ChildLost, because the loss of the previous process was reported already.
            self._start_again(f"cannot be started: {error}")
            return
        if self._spec.started is not None and self._process is not None:
            self._spec.started(self._process.pid)
        self._channel = Channel(ours, self._spec.incoming, patient=False)
        self._loop.register(ours.fileno(), read=self._read)
        self.send(self._spec.setup())

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
        busy_s = now_s - self.busy_since_s if self.busy_since_s else 0.0
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

    def reap(self, patience_s: float, killed_patience_s: float = _EXIT_PATIENCE_S) -> int | None:
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
                code = self._process.wait(killed_patience_s)
            except subprocess.TimeoutExpired:
                _log.error("event=child_stuck child=%r pid=%d", self._spec.name, self._process.pid)
                self._killed.append(self._process)
        self._process = None
        return code

    def reap_killed(self, patience_s: float) -> None:
        """Wait for the processes that were killed."""
        for process in self._killed:
            with suppress(subprocess.TimeoutExpired):
                process.wait(patience_s)

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
        """Return True once the ended process is reaped; kill it where `is_late`."""
        if self._process is None or self._process.poll() is not None:
            self._process = None
            return True
        if is_late:
            self._process.kill()
        return False

    def _hang(self, now_s: float) -> str | None:
        if not self._is_up:
            late = now_s - self._spawned_s > _HELLO_DEADLINE_S
            return f"no hello within {_HELLO_DEADLINE_S:.0f} s" if late else None
        if now_s - self._last_beat_s > self._spec.beat_deadline_s:
            return f"no beat for {now_s - self._last_beat_s:.1f} s"
        if self.busy_since_s and now_s - self.busy_since_s > self._spec.busy_deadline_s:
            return f"one call has lasted {now_s - self.busy_since_s:.1f} s"
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
                self.busy_since_s = message.busy_since_ns / 1e9
                if message.streams:
                    self._on_message(self._spec.name, message)
            case Hello():
                self._is_up = True
                _log.info("event=child_up child=%r pid=%d", self._spec.name, message.pid)
                self._on_message(self._spec.name, message)
                self._on_message(self._spec.name, ChildUp(self._spec.name))
            case _:
                self._on_message(self._spec.name, message)
