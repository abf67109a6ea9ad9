"""The outbox's file: what is in it, and what survives of it."""

import random
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import pytest

from agent.mqtt.message import OutgoingMessage
from agent.mqtt.outbox.outbox_item import Kind, OutboxItem
from agent.mqtt.outbox.sqlite_store import Bounds, SqliteStore, set_aside

WIDE = Bounds(1 << 30, 1e9)


class Moment:
    """A kernel's clock that the test sets."""

    def __init__(self) -> None:
        self.boot = "first"
        self.now_s = 100.0

    def __call__(self) -> tuple[str, float]:
        return self.boot, self.now_s


def entries(
    numbers: Iterable[int], kind: Kind = Kind.DETECTION, kept_s: float = 100.0, size: int = 100
) -> list[OutboxItem]:
    return [OutboxItem(number, kind, OutgoingMessage(f"t/{number}", bytes(size)), kept_s) for number in numbers]


def numbers_in(store: SqliteStore, kind: Kind = Kind.DETECTION) -> list[int]:
    return [int(entry.message.topic.removeprefix("t/")) for entry in store.read(kind, -(2**62), 100_000)]


def test_what_was_written_is_read_by_the_next_boot_before_its_own(tmp_path: Path) -> None:
    first = SqliteStore(tmp_path / "outbox.db", WIDE)
    message = OutgoingMessage("plc/answers", b"\x00\xff", correlation=b"c-1")
    first.write([*entries(range(1, 11)), OutboxItem(11, Kind.EVENT, message, 100.0)], {}, sync=True)
    first.write([], {Kind.DETECTION: [1, 2, 3]}, sync=False)
    first.close()
    second = SqliteStore(tmp_path / "outbox.db", WIDE)
    second.write(entries([1]), {}, sync=False)
    assert numbers_in(second) == [*range(4, 11), 1]
    assert [entry.message for entry in second.read(Kind.EVENT, -(2**62), 10)] == [message]
    assert all(entry.number < 1 for entry in second.read(Kind.EVENT, -(2**62), 10))
    assert second.totals[Kind.DETECTION].count == 8
    second.write([], {Kind.DETECTION: [entry.number for entry in second.read(Kind.DETECTION, -99, 99)]}, sync=False)
    assert (second.totals[Kind.DETECTION].count, second.totals[Kind.DETECTION].size_bytes) == (0, 0)
    second.close()


def test_reading_goes_on_behind_a_number(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "outbox.db", WIDE)
    store.write(entries(range(1, 11)), {}, sync=False)
    assert [entry.number for entry in store.read(Kind.DETECTION, 4, 3)] == [5, 6, 7]
    store.close()


def test_bytes_are_bounded_and_detections_go_before_events(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "outbox.db", Bounds(100_000, 1e9))
    store.write(entries(range(1, 51), Kind.EVENT, size=1000), {}, sync=False)
    for start in range(100, 1100, 10):
        store.write(entries(range(start, start + 10), size=1000), {}, sync=False)
    assert numbers_in(store, Kind.EVENT) == list(range(1, 51))
    left = numbers_in(store)
    assert left == list(range(1100 - len(left), 1100))
    assert len(left) > 20
    assert store.dropped[Kind.DETECTION] == 1000 - len(left)
    assert sum(total.size_bytes for total in store.totals.values()) <= 100_000
    store.close()


def test_the_file_stays_near_its_bound_and_shrinks_when_all_has_arrived(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    store = SqliteStore(path, Bounds(4 << 20, 1e9))
    for start in range(1, 20_001, 100):
        store.write(entries(range(start, start + 100), size=500), {}, sync=False)
    whole = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert whole < 10 << 20, "the bound, and the log of 4 MiB"
    store.write([], {Kind.DETECTION: [entry.number for entry in store.read(Kind.DETECTION, 0, 20_000)]}, sync=False)
    store.close()
    assert path.stat().st_size < 1 << 20


def test_age_counts_on_over_restarts_of_the_agent_and_stands_still_while_the_device_is_off(tmp_path: Path) -> None:
    moment = Moment()
    bounds = Bounds(1 << 30, 1000)
    store = SqliteStore(tmp_path / "outbox.db", bounds, moment=moment)
    store.write(entries([1]), {}, sync=False)
    store.close()
    moment.now_s = 900
    store = SqliteStore(tmp_path / "outbox.db", bounds, moment=moment)
    store.write(entries([2], kept_s=900), {}, sync=False)
    assert store.oldest_kept_s() == 100
    store.close()
    moment.boot, moment.now_s = "second", 5.0
    store = SqliteStore(tmp_path / "outbox.db", bounds, moment=moment)
    assert store.oldest_kept_s() == 5 - 800
    store.write([], {}, sync=False)
    assert numbers_in(store) == [1, 2]
    moment.now_s += 300
    store.write([], {}, sync=False)
    assert numbers_in(store) == [2]
    assert store.dropped[Kind.DETECTION] == 1
    store.close()


def test_a_loss_of_power_leaves_whole_transactions(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    store = SqliteStore(path, WIDE)
    for start in range(1, 201, 10):
        store.write(entries(range(start, start + 10)), {}, sync=False)
    database, log = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    chance = random.Random(5)
    seen = set()
    for number in range(40):
        torn = tmp_path / f"torn-{number}.db"
        torn.write_bytes(database)
        Path(f"{torn}-wal").write_bytes(log[: chance.randrange(len(log))])
        survivor = SqliteStore(torn, WIDE)
        left = numbers_in(survivor)
        assert left == list(range(1, len(left) + 1))
        assert len(left) % 10 == 0
        assert survivor.totals[Kind.DETECTION].count == len(left)
        seen.add(len(left))
        survivor.close()
    assert len(seen) > 5
    store.close()


def test_a_file_that_is_none_or_damaged_is_no_operational_error(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    path.write_bytes(b"this was a picture of a bottle" * 1000)
    with pytest.raises(sqlite3.DatabaseError) as caught:
        SqliteStore(path, WIDE)
    assert not isinstance(caught.value, sqlite3.OperationalError)


def test_damaged_files_get_new_names_and_are_few(tmp_path: Path) -> None:
    names = []
    for count in range(5):
        (tmp_path / "outbox.db").write_bytes(bytes([count]))
        (tmp_path / "outbox.db-wal").write_bytes(bytes([count]))
        names.append(set_aside(tmp_path / "outbox.db").name)
    assert names[:3] == ["outbox.damaged-1.db", "outbox.damaged-2.db", "outbox.damaged-3.db"]
    assert len(list(tmp_path.iterdir())) == 6
    assert (tmp_path / names[-1]).read_bytes() == bytes([4])


def test_a_file_of_a_later_version_is_not_written_into(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    SqliteStore(path, WIDE).close()
    with sqlite3.connect(path) as later:
        later.execute("PRAGMA user_version=7")
    later.close()
    with pytest.raises(sqlite3.DatabaseError, match="version 7"):
        SqliteStore(path, WIDE)
    with sqlite3.connect(path) as later:
        assert later.execute("PRAGMA user_version").fetchone() == (7,)
    later.close()
