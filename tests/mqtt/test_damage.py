"""Damage of the outbox's file, also such as SQLite finds well: it is set aside, told, and what is whole is kept."""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.messages.events import Noticed
from agent.mqtt.message import OutgoingMessage
from agent.mqtt.outbox.outbox import Outbox
from agent.mqtt.outbox.outbox_item import Kind, OutboxItem
from agent.mqtt.outbox.sqlite_store import Bounds, SqliteStore
from agent.mqtt.outbox.writer_thread import WriterThread
from agent.processes.loop import Loop

WIDE = Bounds(1 << 30, 1e9)
COUNT = 300
DEADLINE_S = 30.0

WRONG_ROWS = {
    "a payload that is text": "UPDATE detection SET payload = 'text' WHERE number = 150",
    "a payload that is a number": "UPDATE detection SET payload = 5 WHERE number = 150",
    "a topic that is bytes": "UPDATE detection SET topic = x'ff00' WHERE number = 150",
    "a topic that is no UTF-8": "UPDATE detection SET topic = CAST(x'ff' AS TEXT) WHERE number = 150",
    "a topic that cannot be published to": "UPDATE detection SET topic = 'a/#' WHERE number = 150",
    "no topic": "UPDATE detection SET topic = '' WHERE number = 150",
    "a time that is a word": "UPDATE detection SET kept_s = 'noon' WHERE number = 150",
    "a time without an end": "UPDATE detection SET kept_s = 9e999 WHERE number = 150",
    "a correlation that is a number": "UPDATE detection SET correlation = 7 WHERE number = 150",
    "a size that is a word": "UPDATE detection SET size = 'large' WHERE number = 150",
    "a number beyond all": f"UPDATE detection SET number = {2**63 - 1} WHERE number = {COUNT}",
    "a number below all": f"UPDATE detection SET number = {-(2**63)} WHERE number = 1",
}
WRONG_TABLES = {
    "an empty clock": "DELETE FROM clock",
    "two clocks": "INSERT INTO clock SELECT * FROM clock",
    "a clock of words": "UPDATE clock SET elapsed_s = 'noon'",
    "a clock without an end": "UPDATE clock SET boottime_s = 9e999",
    "no clock": "DROP TABLE clock",
    "another clock": "ALTER TABLE clock RENAME COLUMN elapsed_s TO elapsed",
    "an empty total": "DELETE FROM total",
    "a total of words": "UPDATE total SET count = 'many'",
    "a total below nothing": "UPDATE total SET count = -5",
    "a total of another class": "UPDATE total SET kind = 77 WHERE kind = 1",
    "a total that counts others": "UPDATE total SET count = 7 WHERE kind = 2",
    "no total": "DROP TABLE total",
    "no table of another class": "DROP TABLE summary",
    "a column more": "ALTER TABLE detection ADD COLUMN more",
    "another version": "PRAGMA user_version = 9",
    "no version": "PRAGMA user_version = 0",
}


class Bench:
    """An outbox on its loop."""

    def __init__(self, path: Path) -> None:
        self.noticed: list[Noticed] = []
        self.is_closed = False
        self.loop = Loop()
        self.outbox = Outbox(WIDE, path)
        self.outbox.start(self.loop)

    def until(self, is_done: Callable[[], object]) -> None:
        limit_s = time.monotonic() + DEADLINE_S
        while not is_done():
            assert time.monotonic() < limit_s
            self.outbox.tick(is_in_doubt=True)
            self.loop.run_once(0.01, lambda event: self.noticed.append(event) if isinstance(event, Noticed) else None)

    def take_all(self, kind: Kind = Kind.DETECTION) -> list[int]:
        """Take what there is, until all is taken that is not counted as dropped."""
        taken: list[int] = []

        def is_done() -> bool:
            while (entry := self.outbox.next(kind)) is not None:
                taken.append(int(entry.message.topic.removeprefix("t/")))
            return len(taken) == self.outbox.depth(kind) and self.told is not None

        self.until(is_done)
        return taken

    @property
    def told(self) -> str | None:
        found = [one.detail for one in self.noticed if (one.code, one.on) == ("outbox_damaged", True)]
        return found[0] if found else None

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.outbox.stop()
            self.loop.close()


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[Callable[[], Bench]]:
    made: list[Bench] = []

    def make() -> Bench:
        made.append(Bench(tmp_path / "outbox.db"))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


def write(path: Path) -> None:
    store = SqliteStore(path, WIDE)
    now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    entries = [
        OutboxItem(number, Kind.DETECTION, OutgoingMessage(f"t/{number}", bytes(500)), now_s)
        for number in range(1, COUNT + 1)
    ]
    events = [
        OutboxItem(number, Kind.EVENT, OutgoingMessage(f"t/{number}", bytes(100)), now_s) for number in range(401, 411)
    ]
    store.write([*entries, *events], {}, sync=True)
    store.close()


def spoil(path: Path, statement: str) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute(statement)
    db.close()


@pytest.mark.parametrize("damage", WRONG_ROWS)
def test_a_wrong_row_costs_itself_alone(tmp_path: Path, make_bench: Callable[[], Bench], damage: str) -> None:
    path = tmp_path / "outbox.db"
    write(path)
    spoil(path, WRONG_ROWS[damage])
    bench = make_bench()
    bench.outbox.keep(Kind.DETECTION, OutgoingMessage("t/999", b"new"))
    bench.outbox.on_change = lambda: None
    taken = bench.take_all() if damage != "a size that is a word" else _after_a_forgetting(bench)
    assert set(range(1, COUNT + 1)) - set(taken) <= {150, COUNT, 1}
    assert taken == sorted(taken)
    assert len(taken) + bench.outbox.dropped(Kind.DETECTION) == COUNT + 1
    assert bench.take_all(Kind.EVENT) == list(range(401, 411))
    assert bench.told is not None
    assert "outbox.damaged-1.db" in bench.told
    assert (tmp_path / "outbox.damaged-1.db").exists()


def _after_a_forgetting(bench: Bench) -> list[int]:
    """Let all be acknowledged: the wrong size shows where its message is forgotten."""
    taken: list[int] = []

    def is_done() -> bool:
        while (entry := bench.outbox.next(Kind.DETECTION)) is not None:
            taken.append(int(entry.message.topic.removeprefix("t/")))
            bench.outbox.acknowledged(entry)
        return bench.told is not None and not bench.outbox.depth(Kind.DETECTION)

    bench.until(is_done)
    return taken


@pytest.mark.parametrize("damage", WRONG_TABLES)
def test_a_wrong_table_costs_no_message(tmp_path: Path, make_bench: Callable[[], Bench], damage: str) -> None:
    path = tmp_path / "outbox.db"
    write(path)
    spoil(path, WRONG_TABLES[damage])
    bench = make_bench()
    assert bench.take_all() == list(range(1, COUNT + 1))
    assert bench.take_all(Kind.EVENT) == list(range(401, 411))
    assert [bench.outbox.dropped(kind) for kind in Kind] == [0, 0, 0] if "counts" not in damage else True
    assert bench.told is not None
    assert f"{COUNT + 10} messages kept" in bench.told
    assert bench.outbox.trouble.unwritable is None
    ages = bench.outbox.oldest_age_s
    assert 0 <= ages < 3600


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_pages_that_are_broken_cost_what_was_in_them(
    tmp_path: Path, make_bench: Callable[[], Bench], place: float
) -> None:
    path = tmp_path / "outbox.db"
    write(path)
    pages = path.stat().st_size // 4096
    with path.open("r+b") as file:
        file.seek(int(pages * place) * 4096)
        file.write(b"\xa5" * 4096 * 2)
    bench = make_bench()
    taken = bench.take_all()
    assert taken == sorted(set(taken))
    assert len(taken) >= COUNT // 2, "the parts before and behind it are whole"
    lost = sum(bench.outbox.dropped(kind) for kind in Kind)
    assert len(taken) + len(bench.take_all(Kind.EVENT)) + lost >= COUNT + 10


def test_an_empty_file_is_said(tmp_path: Path, make_bench: Callable[[], Bench]) -> None:
    path = tmp_path / "outbox.db"
    write(path)
    os.truncate(path, 0)
    bench = make_bench()
    bench.outbox.keep(Kind.DETECTION, OutgoingMessage("t/1", b"new"))
    bench.until(lambda: bench.told)
    assert "is empty" in str(bench.told)
    bench.until(lambda: bench.outbox.disk_bytes)
    assert bench.take_all() == [1]


def test_a_log_without_its_file_is_said(tmp_path: Path, make_bench: Callable[[], Bench]) -> None:
    (tmp_path / "outbox.db-wal").write_bytes(b"x" * 5000)
    bench = make_bench()
    bench.until(lambda: bench.told)
    assert (tmp_path / "outbox.damaged-1.db-wal").exists()


def test_a_new_file_is_no_damage_also_after_a_kill_while_it_is_made(
    tmp_path: Path, make_bench: Callable[[], Bench]
) -> None:
    (tmp_path / "outbox.new.db").write_bytes(b"half of it")
    bench = make_bench()
    bench.outbox.keep(Kind.DETECTION, OutgoingMessage("t/1", b"new"))
    bench.until(lambda: bench.outbox.disk_bytes)
    assert bench.told is None
    assert not (tmp_path / "outbox.new.db").exists()
    assert (tmp_path / "outbox.db").stat().st_mode & 0o077 == 0


def test_damage_while_it_runs_keeps_the_numbers(tmp_path: Path, make_bench: Callable[[], Bench]) -> None:
    """What is read behind the damage comes once, and what is forgotten meanwhile does not come back."""
    path = tmp_path / "outbox.db"
    write(path)
    spoil(path, WRONG_ROWS["a payload that is text"])
    bench = make_bench()
    taken: list[int] = []

    def is_done() -> bool:
        while (entry := bench.outbox.next(Kind.DETECTION)) is not None:
            taken.append(int(entry.message.topic.removeprefix("t/")))
            bench.outbox.acknowledged(entry)
        return bench.told is not None and not bench.outbox.depth(Kind.DETECTION)

    bench.until(is_done)
    assert taken == [number for number in range(1, COUNT + 1) if number != 150 or 150 in taken]
    bench.close()
    store = SqliteStore(path, WIDE)
    assert store.totals[Kind.DETECTION].count == 0
    assert store.totals[Kind.EVENT].count == 10
    store.close()


class _FailingKeeper(WriterThread):
    """A keeper with a mistake in it that nobody thought of."""

    fails = 0

    def _has_rest(self) -> bool:
        if self._mail_is_served and self.fails < 3:
            self.fails += 1
            raise RuntimeError("nobody thought of this")
        return super()._has_rest()

    @property
    def _mail_is_served(self) -> bool:
        return self._store is not None or self._owed != []


def test_any_exception_in_the_thread_is_told_and_the_thread_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[object] = []
    keeper = _FailingKeeper(tmp_path / "outbox.db", WIDE, told.append, retry_s=0.1)
    keeper.start()
    for number in range(1, 6):
        keeper.write(OutboxItem(number, Kind.EVENT, OutgoingMessage(f"t/{number}", b"x"), 1.0))
        limit_s = time.monotonic() + DEADLINE_S
        while not told and time.monotonic() < limit_s:
            time.sleep(0.01)
        assert told, "its owner hears of each"
        told.clear()
    assert keeper.is_running
    assert keeper.stop()
    assert any("event=outbox_failed" in record.message for record in caplog.records)


def test_a_thread_that_is_gone_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WriterThread, "_run", lambda _self: None)
    bench = Bench(tmp_path / "outbox.db")
    bench.outbox.keep(Kind.EVENT, OutgoingMessage("t/1", b"x"))
    bench.until(lambda: [one for one in bench.noticed if (one.code, one.on) == ("outbox_disk", True)])
    bench.until(lambda: bench.outbox.next(Kind.EVENT))
    bench.outbox.back()
    bench.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "keeper"]


def test_what_a_thread_wrote_before_it_ended_counts_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_until_written(thread: WriterThread) -> None:
        while not thread._store or not thread._store.totals[Kind.EVENT].count:
            thread._turn()
        thread._close()

    monkeypatch.setattr(WriterThread, "_run", run_until_written)
    bench = Bench(tmp_path / "outbox.db")
    bench.outbox.keep(Kind.EVENT, OutgoingMessage("t/1", b"x"))
    bench.outbox.secure()
    for thread in threading.enumerate():
        if thread.name == "keeper":
            thread.join(DEADLINE_S)
    # the tick comes before the loop has read the thread's last answer
    bench.outbox.tick(is_in_doubt=True)
    assert bench.outbox.trouble.unwritable == "the thread that writes it has ended"
    bench.until(lambda: [one for one in bench.noticed if (one.code, one.on) == ("outbox_disk", True)])
    assert bench.outbox.depth(Kind.EVENT) == 1
    assert bench.outbox.disk_bytes > 0
    bench.close()
