"""A real worker process, and what stands around it: slots with frames in them, and a pipe that somebody reads."""

import hashlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, TypeVar

from agent import isolated
from agent.messages.canary import Compare, StopComparing
from agent.messages.children import (
    Assign,
    Beat,
    CacheDecided,
    CacheState,
    Detections,
    Message,
    Prepare,
    Prepared,
    PrepareFailed,
    SwapFailed,
    Swapped,
    WorkerSetup,
    WorkerStream,
)
from agent.messages.payloads import CacheDecision
from agent.messages.references import ModelVersion
from agent.messages.worker import WorkerMessage
from agent.models import child_environment
from agent.processes.channel import Channel, ChannelClosedError, pair
from agent.processes.slots.frame_slot import FrameSlot, SlotWriter

DEADLINE_S: Final = 60.0
BUDGET_BYTES: Final = 256 << 20
SIDE: Final = 64

Kind = TypeVar("Kind", bound=Message)


class Feeder:
    """Offers frames as fast as they are taken, on a thread, until it is stopped."""

    def __init__(self, writer: SlotWriter, pause_s: float) -> None:
        self._writer: Final = writer
        self._pause_s: Final = pause_s
        self._stopping: Final = threading.Event()
        self.offered = 0
        self._thread: Final = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop; the frame offered last has been taken then."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            offer(self._writer)
            self.offered += 1
            self._stopping.wait(self._pause_s)
            while not self._writer.wait_taken(0.1):
                if self._stopping.is_set():
                    return


def offer(writer: SlotWriter) -> int:
    writer.buffer(SIDE, SIDE)[:] = 90
    return writer.offer(time.monotonic_ns(), time.time_ns())


class Plant:
    """A worker, and everything that it said but beats, in the order of the pipe."""

    def __init__(self, send: Callable[[Assign | Prepare | Compare | StopComparing], None]) -> None:
        self.send: Final = send
        self.messages: Final[list[Message]] = []
        self.writers: Final[dict[str, SlotWriter]] = {}
        self._arrived: Final = threading.Condition()
        self._changes = 0

    def hear(self, message: Message | None) -> None:
        with self._arrived:
            if message is not None and not isinstance(message, Beat):
                self.messages.append(message)
            self._arrived.notify_all()

    def wait_until(self, is_there: Callable[[], bool]) -> None:
        with self._arrived:
            assert self._arrived.wait_for(is_there, DEADLINE_S), f"not in time; last: {self.messages[-5:]}"

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [message for message in self.messages if isinstance(message, kind)]

    def assign(self, version: ModelVersion, line: str = "line-1", *, keeps_ready: bool = False) -> int:
        self._changes += 1
        self.send(Assign(line=line, change=self._changes, model=version, keeps_ready=keeps_ready))
        return self._changes

    def announce(
        self, version: ModelVersion, line: str = "line-1", hold_s: float = 600.0, *, is_candidate: bool = False
    ) -> int:
        self._changes += 1
        self.send(Prepare(line, self._changes, version, hold_s, is_candidate=is_candidate))
        return self._changes

    def outcome(self, number: int) -> Prepared | PrepareFailed:
        """Wait for what became of an announcement."""

        def found() -> list[Prepared | PrepareFailed]:
            return [m for m in self.messages if isinstance(m, Prepared | PrepareFailed) and m.number == number]

        self.wait_until(lambda: bool(found()))
        return found()[0]

    def prepare(
        self, version: ModelVersion, line: str = "line-1", hold_s: float = 600.0, *, is_candidate: bool = False
    ) -> Prepared:
        outcome = self.outcome(self.announce(version, line, hold_s, is_candidate=is_candidate))
        assert isinstance(outcome, Prepared), outcome
        return outcome

    def answer(self, change: int) -> Swapped | SwapFailed:
        """Wait for what became of a change."""

        def found() -> list[Swapped | SwapFailed]:
            return [m for m in self.messages if isinstance(m, Swapped | SwapFailed) and m.change == change]

        self.wait_until(lambda: bool(found()))
        return found()[0]

    def switch(self, version: ModelVersion, line: str = "line-1") -> Swapped:
        answer = self.answer(self.assign(version, line))
        assert isinstance(answer, Swapped), answer
        return answer

    def refusal(self, version: ModelVersion, line: str = "line-1") -> SwapFailed:
        answer = self.answer(self.assign(version, line))
        assert isinstance(answer, SwapFailed), answer
        return answer

    def detect(self, stream: str = "cam-1") -> Detections:
        """Offer one frame and wait for its answer."""
        number = offer(self.writers[stream])

        def found() -> list[Detections]:
            return [m for m in self.of(Detections) if m.stream == stream and m.frame == number]

        self.wait_until(lambda: bool(found()))
        return found()[0]

    def frames(self, stream: str) -> list[int]:
        """Return the numbers of the frames of a stream that were answered, in the order of the answers."""
        return [one.frame for one in self.of(Detections) if one.stream == stream]

    def resident(self) -> dict[str, str]:
        """Read the ledger told last: states by reference."""
        return {row.model: row.state for row in self.of(CacheState)[-1].models}

    def reserved(self) -> dict[str, str | None]:
        """Read the ledger told last: for whom models are reserved, by reference."""
        return {row.model: row.reserved_for for row in self.of(CacheState)[-1].models}

    def wait_for_ledger(self, expected: dict[str, str]) -> None:
        self.wait_until(lambda: self.resident() == expected)


class PlantProcess(Plant):
    """A plant whose worker is a process of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]", channel: "Channel[WorkerMessage]") -> None:
        super().__init__(channel.send)
        self.process: Final = process
        self.channel: Final = channel
        self._reader: Final = threading.Thread(target=self._read, daemon=True)

    def start(self) -> None:
        self._reader.start()

    def stop(self) -> None:
        """Kill; may be called again."""
        self.process.kill()
        self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        self.channel.close()

    def hang_up(self) -> None:
        """Close control's end, as its death would."""
        with socket.socket(fileno=os.dup(self.channel.fileno())) as ours:
            ours.shutdown(socket.SHUT_RDWR)

    def _read(self) -> None:
        with suppress(ChannelClosedError):
            while True:
                self.hear(self.channel.receive())


def start_plant(
    stack: ExitStack,
    cache_dir: Path,
    streams: dict[str, str] | None = None,
    budget_bytes: int = BUDGET_BYTES,
    load_timeout_s: float = DEADLINE_S,
) -> PlantProcess:
    """Start a worker for `streams` (lines by stream); `stack` ends everything."""
    slots = {}
    for stream in streams or {"cam-1": "line-1"}:
        slots[stream] = FrameSlot.create(stream)
        stack.callback(slots[stream].close)
    ours, theirs = pair()
    descriptors = [fd for slot in slots.values() for fd in _descriptors(slot)]
    command = isolated.command("agent.inference.process", theirs.fileno())
    process = subprocess.Popen(
        command, pass_fds=[theirs.fileno(), *descriptors], env={**os.environ, **child_environment.FOR_WORKER}
    )
    theirs.close()
    plant = PlantProcess(process, Channel(ours, WorkerMessage))
    stack.callback(plant.stop)
    lines = streams or {"cam-1": "line-1"}
    members = tuple(WorkerStream(id=s, line=lines[s], slot=slot.descriptors()) for s, slot in slots.items())
    plant.writers.update({stream: SlotWriter(slot.descriptors()) for stream, slot in slots.items()})
    plant.channel.send(WorkerSetup(members, "cpu", budget_bytes, str(cache_dir), load_timeout_s))
    plant.start()
    return plant


def _descriptors(slot: FrameSlot) -> tuple[int, int, int]:
    descriptors = slot.descriptors()
    return descriptors.memory, descriptors.offered, descriptors.taken


def bytes_of(plant: Plant, name: str) -> int:
    return next(row.bytes for row in plant.of(CacheState)[-1].models if row.model == f"{name}:n@1")


def decisions(plant: Plant) -> list[CacheDecision]:
    return [message.decision for message in plant.of(CacheDecided)]


def entry_of(name: str, path: Path, fields: dict[str, object] | None = None) -> ModelVersion:
    known = {"name": name, "variant": "n", "version": "1", "path": str(path), "sha256": sha256_of(path)}
    return ModelVersion(**(known | (fields or {})))  # type: ignore[arg-type] # the fields of one test


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
