"""The outbox with its file: what reaches the disk, what comes back from it, and what happens when it does not work."""

import contextlib
import errno
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.mqtt.message import OutgoingMessage
from agent.mqtt.outbox.outbox import DOUBT_S, Outbox, boottime_s
from agent.mqtt.outbox.outbox_item import Kind, OutboxItem
from agent.mqtt.outbox.sqlite_store import Bounds, SqliteStore
from agent.processes.loop import Loop

DEADLINE_S = 60
WIDE = Bounds(1 << 30, 1e9)


class Bench:
    """An outbox and its loop."""

    def __init__(self, path: Path, bounds: Bounds = WIDE, at_once: frozenset[Kind] = frozenset()) -> None:
        self.loop = Loop()
        self.outbox = Outbox(bounds, path, at_once=at_once)
        self.outbox.start(self.loop)

    def keep(self, number: int, kind: Kind = Kind.DETECTION, size: int = 100) -> None:
        self.outbox.keep(kind, OutgoingMessage(str(number), bytes(size)))

    def until(self, is_done: Callable[[], object]) -> None:
        limit_s = time.monotonic() + DEADLINE_S
        while not is_done():
            assert time.monotonic() < limit_s
            self.loop.run_once(0.01, lambda _: None)

    def until_written(self) -> None:
        self.outbox.tick(is_in_doubt=True)
        self.until(lambda: not (self.outbox.waiting_bytes or self.outbox.queued_bytes))

    def take(self, count: int, kind: Kind = Kind.DETECTION) -> list[OutboxItem]:
        taken: list[OutboxItem] = []

        def is_done() -> bool:
            while len(taken) < count and (entry := self.outbox.next(kind)) is not None:
                taken.append(entry)
            return len(taken) == count

        self.until(is_done)
        return taken

    def close(self) -> None:
        self.outbox.stop()
        self.loop.close()


@pytest.fixture
def make_bench() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(path: Path, bounds: Bounds = WIDE, at_once: frozenset[Kind] = frozenset()) -> Bench:
        made.append(Bench(path, bounds, at_once))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def names(entries: list[OutboxItem]) -> list[int]:
    return [int(entry.message.topic) for entry in entries]


def on_disk(path: Path, kind: Kind = Kind.DETECTION) -> list[int]:
    store = SqliteStore(path, WIDE)
    found = names(store.read(kind, -(2**62), 100_000))
    store.close()
    return found


def test_what_waits_without_a_link_is_on_disk_and_comes_back_in_order(
    tmp_path: Path, make_bench: Callable[..., Bench]
) -> None:
    bench = make_bench(tmp_path / "outbox.db")
    for number in range(500):
        bench.keep(number)
    bench.until_written()
    assert bench.outbox.depth(Kind.DETECTION) == 500
    assert bench.outbox.disk_bytes == bench.outbox.size_bytes > 0
    taken = bench.take(500)
    assert names(taken) == list(range(500))
    for entry in taken[:400]:
        bench.outbox.acknowledged(entry)
    assert bench.outbox.depth(Kind.DETECTION) == 100
    bench.outbox.back()
    assert names(bench.take(100)) == list(range(400, 500))
    bench.outbox.stop()
    assert on_disk(tmp_path / "outbox.db") == list(range(400, 500))


def test_what_is_acknowledged_soon_never_reaches_the_disk(tmp_path: Path, make_bench: Callable[..., Bench]) -> None:
    path = tmp_path / "outbox.db"
    bench = make_bench(path)
    bench.keep(0)
    bench.until_written()
    bench.outbox.acknowledged(bench.take(1)[0])
    bench.until(lambda: bench.outbox.disk_bytes == 0)
    before = [(file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(tmp_path.iterdir())]
    for number in range(500):
        bench.outbox.keep(Kind.EVENT, OutgoingMessage(str(number), b"x"))
        bench.outbox.acknowledged(bench.take(1, Kind.EVENT)[0])
        bench.outbox.acknowledged(bench.outbox.track_in_flight(Kind.DETECTION, OutgoingMessage(str(number), b"x")))
        bench.outbox.tick(is_in_doubt=False)
    bench.loop.run_once(0.1, lambda _: None)
    assert [(file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(tmp_path.iterdir())] == before


def test_an_answer_that_takes_long_puts_the_link_in_doubt(tmp_path: Path, make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(tmp_path / "outbox.db")
    entry = bench.outbox.track_in_flight(Kind.DETECTION, OutgoingMessage("7", b"x"))
    event = bench.outbox.track_in_flight(Kind.EVENT, OutgoingMessage("8", b"x"))
    limit_s = time.monotonic() + DEADLINE_S
    while not (entry.is_written and event.is_written):
        assert time.monotonic() < limit_s
        bench.outbox.tick(is_in_doubt=False)
        bench.loop.run_once(0.02, lambda _: None)
    assert boottime_s() - entry.kept_s >= DOUBT_S
    bench.outbox.acknowledged(event)
    bench.outbox.stop()
    assert on_disk(tmp_path / "outbox.db") == [7]
    assert on_disk(tmp_path / "outbox.db", Kind.EVENT) == []


def test_a_message_lent_when_written_is_on_disk_by_then(tmp_path: Path, make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(tmp_path / "outbox.db", at_once=frozenset(Kind))
    told: list[bool] = []
    entry = bench.outbox.track_in_flight_once_written(
        Kind.DETECTION, OutgoingMessage("7", b"x"), lambda: told.append(entry.is_written)
    )
    bench.until(lambda: told)
    assert told == [True]
    assert bench.outbox.next(Kind.DETECTION) is None, "it is about to be sent"
    bench.outbox.release(entry)
    assert names(bench.take(1)) == [7]


STEPS = ["keep", "lend", "written", "next", "acknowledge", "release", "back", "turn", "tick", "down"]


class Walk:
    """Does one step after another with a bench."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.count = 0
        self.done: set[int] = set()
        self._taken: list[OutboxItem] = []

    def step(self, step: str) -> None:
        outbox = self.bench.outbox
        if step in {"keep", "lend", "written"}:
            self._add(step, OutgoingMessage(str(self.count), b"x"))
        elif step == "next" and (entry := outbox.next(Kind.DETECTION)) is not None:
            self._taken.append(entry)
        elif step == "acknowledge" and self._taken:
            entry = self._taken.pop(0)
            outbox.acknowledged(entry)
            self.done.add(int(entry.message.topic))
        elif step == "release" and self._taken:
            outbox.release(self._taken.pop())
        elif step == "back":
            outbox.back()
            self._taken.clear()
        elif step in {"turn", "tick", "down"}:
            self._pass_time(step)

    def _add(self, step: str, message: OutgoingMessage) -> None:
        outbox = self.bench.outbox
        self.count += 1
        if step == "keep":
            outbox.keep(Kind.DETECTION, message)
        elif step == "lend":
            self._taken.append(outbox.track_in_flight(Kind.DETECTION, message))
        else:
            self._taken.append(outbox.track_in_flight_once_written(Kind.DETECTION, message, lambda: None))

    def _pass_time(self, step: str) -> None:
        if step == "turn":
            self.bench.loop.run_once(0.02, lambda _: None)
        else:
            self.bench.outbox.tick(is_in_doubt=step != "tick")


@settings(deadline=None, max_examples=60)
@given(steps=st.lists(st.sampled_from(STEPS), max_size=80), at_once=st.sampled_from([frozenset(), frozenset(Kind)]))
def test_each_message_comes_in_order_and_none_is_lost_whatever_happens(
    steps: list[str], at_once: frozenset[Kind]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "outbox.db"
        walk = Walk(Bench(path, at_once=at_once))
        for step in steps:
            walk.step(step)
        bench, outbox = walk.bench, walk.bench.outbox
        left = [number for number in range(walk.count) if number not in walk.done]
        outbox.back()
        assert names(bench.take(len(left))) == left
        outbox.back()
        bench.until_written()
        assert outbox.depth(Kind.DETECTION) == len(left)
        bench.close()
        assert on_disk(path) == left


KEEPS = """
import sys
from pathlib import Path
from agent.mqtt.outbox.outbox_item import Kind
from agent.mqtt.outbox.outbox import Outbox
from agent.mqtt.message import OutgoingMessage
from agent.mqtt.outbox.sqlite_store import Bounds
from agent.processes.loop import Loop
loop = Loop()
outbox = Outbox(Bounds(1 << 30, 3600), Path(sys.argv[1]))
outbox.start(loop)
for number in range(int(sys.argv[2])):
    outbox.keep(Kind.DETECTION, OutgoingMessage(str(number), b"x" * 500))
    if number % 100 == 0:
        outbox.keep(Kind.EVENT, OutgoingMessage(str(number), b"x"))
while outbox.queued_bytes or outbox.waiting_bytes:
    outbox.tick(is_in_doubt=True)
    loop.run_once(0.01, lambda _: None)
print("kept", flush=True)
while True:
    loop.run_once(1, lambda _: None)
"""


@pytest.mark.parametrize("count", [500, 5000])
def test_a_killed_process_leaves_all_to_the_next(tmp_path: Path, count: int, make_bench: Callable[..., Bench]) -> None:
    path = tmp_path / "outbox.db"
    with subprocess.Popen([sys.executable, "-c", KEEPS, path, str(count)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"kept\n"
        process.send_signal(signal.SIGKILL)
    bench = make_bench(path)
    bench.keep(count)
    bench.until_written()
    taken = bench.take(count + 1)
    assert names(taken) == list(range(count + 1))
    assert [entry.number < 1 for entry in taken] == [True] * count + [False]
    assert names(bench.take(count // 100, Kind.EVENT)) == list(range(0, count, 100))


def test_a_damaged_file_is_set_aside_and_told_and_a_new_one_serves(
    tmp_path: Path, make_bench: Callable[..., Bench]
) -> None:
    path = tmp_path / "outbox.db"
    path.write_bytes(b"not a database at all" * 1000)
    bench = make_bench(path)
    bench.keep(1)
    bench.until_written()
    damaged = bench.outbox.trouble.damaged
    assert damaged is not None
    assert damaged.endswith("outbox.damaged-1.db")
    assert bench.outbox.trouble.unwritable is None
    assert (tmp_path / "outbox.damaged-1.db").read_bytes().startswith(b"not a database")
    assert names(bench.take(1)) == [1]


def test_damage_that_shows_later_loses_only_what_was_in_it(tmp_path: Path, make_bench: Callable[..., Bench]) -> None:
    path = tmp_path / "outbox.db"
    first = SqliteStore(path, WIDE)
    first.write(
        [OutboxItem(number, Kind.DETECTION, OutgoingMessage(str(number), bytes(500)), 0) for number in range(999)],
        {},
        sync=True,
    )
    first.close()
    with path.open("r+b") as file:
        for page in range(8, 60):
            file.seek(page * 4096)
            file.write(b"\xa5" * 4096)
    bench = make_bench(path)
    bench.keep(5000)
    bench.outbox.next(Kind.DETECTION)
    bench.until(lambda: bench.outbox.next(Kind.DETECTION) is None and bench.outbox.trouble.damaged is not None)
    bench.outbox.back()
    bench.until_written()
    lost = bench.outbox.dropped(Kind.DETECTION)
    assert 0 < lost < 999
    taken = names(bench.take(1000 - lost))
    assert taken == sorted(taken)
    assert taken[-1] == 5000


def test_a_folder_that_cannot_be_had_leaves_it_all_in_memory_and_says_so(
    tmp_path: Path, make_bench: Callable[..., Bench]
) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    bench = make_bench(tmp_path / "state" / "outbox.db")
    for number in range(100):
        bench.keep(number)
    bench.outbox.tick(is_in_doubt=True)
    bench.until(lambda: bench.outbox.trouble.unwritable)
    assert names(bench.take(100)) == list(range(100))
    bench.outbox.back()
    for number in range(100, 50_000):
        bench.keep(number)
    assert bench.outbox.size_bytes < 5 << 20
    assert bench.outbox.dropped(Kind.DETECTION) > 10_000


def test_a_full_disk_is_told_and_what_fits_in_memory_goes_there_once_there_is_room(
    small_disk: Path, make_bench: Callable[..., Bench]
) -> None:
    ballast = small_disk / "ballast"
    bench = make_bench(small_disk / "state" / "outbox.db")
    bench.keep(0)
    bench.until_written()
    ballast.write_bytes(bytes(700 << 10))
    for number in range(1, 2001):
        bench.keep(number)
        bench.outbox.tick(is_in_doubt=True)
    bench.until(lambda: bench.outbox.trouble.unwritable)
    assert "full" in str(bench.outbox.trouble.unwritable)
    assert bench.outbox.depth(Kind.DETECTION) == 2001
    ballast.unlink()
    bench.until(lambda: bench.outbox.trouble.unwritable is None)
    bench.until_written()
    assert names(bench.take(2001)) == list(range(2001))
    assert bench.outbox.dropped(Kind.DETECTION) == 0


def test_what_arrived_is_not_sent_again_though_a_full_disk_cannot_forget_it(
    small_disk: Path, make_bench: Callable[..., Bench]
) -> None:
    bench = make_bench(small_disk / "outbox.db")
    for number in range(100):
        bench.keep(number)
    bench.until_written()
    with contextlib.suppress(OSError):
        (small_disk / "ballast").write_bytes(bytes(2 << 20))
    for entry in bench.take(50):
        bench.outbox.acknowledged(entry)
    bench.until(lambda: bench.outbox.trouble.unwritable or bench.outbox.depth(Kind.DETECTION) == 50)
    bench.outbox.back()
    assert names(bench.take(50)) == list(range(50, 100))


def test_a_system_that_has_no_descriptor_left_is_no_end_of_the_outbox(
    tmp_path: Path, make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    bench = make_bench(tmp_path / "outbox.db")
    monkeypatch.setattr(bench.outbox._writer, "_retry_s", 0.1)
    bench.keep(0)
    bench.until_written()
    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "write", fails)
        bench.keep(1)
        bench.outbox.tick(is_in_doubt=True)
        bench.until(lambda: bench.outbox.trouble.unwritable)
    bench.until(lambda: bench.outbox.trouble.unwritable is None)
    bench.until_written()
    assert names(bench.take(2)) == [0, 1]


def test_a_second_agent_on_the_same_file_keeps_off(tmp_path: Path, make_bench: Callable[..., Bench]) -> None:
    first = make_bench(tmp_path / "outbox.db")
    first.keep(1)
    first.until_written()
    second = make_bench(tmp_path / "outbox.db")
    second.keep(2)
    second.outbox.tick(is_in_doubt=True)
    second.until(lambda: second.outbox.trouble.unwritable)
    assert "locked" in str(second.outbox.trouble.unwritable)
    assert names(second.take(1)) == [2]


def test_the_file_is_a_plain_database(tmp_path: Path, make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(tmp_path / "outbox.db")
    bench.keep(1)
    bench.until_written()
    bench.outbox.stop()
    with sqlite3.connect(tmp_path / "outbox.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()


def test_a_disk_that_hangs_holds_up_no_event(
    tmp_path: Path, make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()

    def hang(*_: object) -> SqliteStore:
        assert answers.wait(DEADLINE_S)
        raise OSError("gone")

    monkeypatch.setattr("agent.mqtt.outbox.writer_thread.SqliteStore", hang)
    bench = make_bench(tmp_path / "outbox.db")
    bench.keep(1, Kind.EVENT)
    assert bench.outbox.next(Kind.EVENT) is None, "what is on disk comes first"
    taken: list[OutboxItem] = []

    def is_taken() -> bool:
        bench.outbox.tick(is_in_doubt=False)
        bench.keep(2, Kind.EVENT)
        taken.extend(entry for entry in [bench.outbox.next(Kind.EVENT)] if entry is not None)
        return bool(taken)

    bench.until(is_taken)
    assert names(taken) == [2]
    assert not bench.outbox.can_write
    answers.set()
