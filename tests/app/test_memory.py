"""State that survives a killed process, a loss of power, a damaged file and a full disk."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.app.state_disk import snapshot_file
from agent.app.state_disk.snapshot_file import STATE_DISK, SnapshotFile
from agent.control.lines.changeover import KEPT_ANSWERS
from agent.control.snapshot import Answered, LineSnapshot, Snapshot, UnsentAck
from agent.messages.events import Noticed
from agent.messages.payloads import Ack

DEADLINE_S = 30.0
LATER_S = time.monotonic() + 10_000.0
TOPIC = "changeover/v1/box/line/line-1/product/set"


def of(product: str, **others: str) -> Snapshot:
    lines = {"line-1": product, **{id_.replace("_", "-"): value for id_, value in others.items()}}
    return Snapshot(lines={id_: LineSnapshot(product=value) for id_, value in lines.items()})


def answered(*numbers: int) -> tuple[Answered, ...]:
    return tuple(Answered(TOPIC, Ack(f"id-{number}", TOPIC, "done", None, "x" * 200), "line-1") for number in numbers)


def products(snapshot: Snapshot) -> dict[str, str | None]:
    return {id_: line.product for id_, line in snapshot.lines.items()}


def lost(snapshot: Snapshot) -> list[str]:
    return [id_ for id_, line in snapshot.lines.items() if line.lost]


def opened(folder: Path, told: list[Noticed] | None = None) -> SnapshotFile:
    file = SnapshotFile(folder, told.append if told is not None else lambda _notice: None)
    file.load()
    return file


def until(is_done: Callable[[], object]) -> None:
    limit_s = time.monotonic() + DEADLINE_S
    while not is_done():
        assert time.monotonic() < limit_s
        time.sleep(0.01)


def logs(folder: Path) -> list[Path]:
    return sorted(folder.glob("control-*.log"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of half a MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", folder], check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> Path:
    """Take all the space that is left."""
    path = folder / "filler"
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 512)
    assert shutil.disk_usage(folder).free == 0
    return path


def test_what_was_saved_is_loaded_at_once_by_another_process(tmp_path: Path) -> None:
    file = opened(tmp_path / "state")
    for number in range(50):
        file.save(of(f"p{number}"))
        other = SnapshotFile(tmp_path / "state")
        assert other.load() == of(f"p{number}")
        other._disk.close()
    file.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "snapshot"]
    assert SnapshotFile(tmp_path / "state").load() == of("p49")


def test_every_field_comes_back_and_what_went_is_gone(tmp_path: Path) -> None:
    file = opened(tmp_path)
    first = Snapshot(
        lines={"line-1": LineSnapshot(product="17"), "line-2": LineSnapshot(history=("a:n@1",))},
        retained={"a": b"\xff\x00", "b": b"2"},
        answers=answered(1, 2),
        schedule="[]",
        kbps=500.0,
        kbps_topic="k",
        unsent_acks=(UnsentAck(Ack("id-2", TOPIC, "done")),),
        boots=("one",),
    )
    second = Snapshot(lines=first.lines, retained={"b": b"3"}, answers=answered(1, 2, 3), boots=("one", "two"))
    for wanted in (first, second):
        file.save(wanted)
        assert SnapshotFile(tmp_path).load() == wanted
    file.close()
    assert SnapshotFile(tmp_path).load() == second


def test_an_answer_costs_what_it_takes_and_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folding the log into the snapshot is within the bound, and loses nothing."""
    monkeypatch.setattr(snapshot_file, "LOG_BYTES", 1 << 19)
    file = opened(tmp_path)
    before = _written_bytes()
    count = 4 * KEPT_ANSWERS
    for number in range(count):
        kept = answered(*range(max(0, number - KEPT_ANSWERS + 1), number + 1))
        file.save(Snapshot(lines=of("17").lines, answers=kept, unsent_acks=(UnsentAck(kept[-1].ack),)))
    assert SnapshotFile(tmp_path).load().answers == kept
    file.close()
    assert (_written_bytes() - before) / count < 8192
    assert SnapshotFile(tmp_path).load().answers == kept
    assert sum(path.stat().st_size for path in logs(tmp_path)) < 1 << 19


def _written_bytes() -> int:
    return int(Path("/proc/self/io").read_text().partition("wchar: ")[2].split()[0])


def test_nothing_is_written_where_nothing_changed(tmp_path: Path) -> None:
    file = opened(tmp_path)
    file.save(of("17"))
    before = [path.stat().st_size for path in logs(tmp_path)]
    file.save(of("17"))
    assert [path.stat().st_size for path in logs(tmp_path)] == before
    file.close()


@pytest.mark.parametrize("tail", [b"0", b"0badc0de {}", b"0badc0de {}\n", b"\0" * 4096, b"\n\n"])
def test_a_torn_end_is_left_out_and_written_over(tmp_path: Path, tail: bytes) -> None:
    file = opened(tmp_path)
    file.save(of("17"))
    with logs(tmp_path)[-1].open("ab") as log:
        log.write(tail)
    again = SnapshotFile(tmp_path)
    assert again.load() == of("17")
    again.save(of("18"))
    assert SnapshotFile(tmp_path).load() == of("18")


def test_a_record_that_is_damaged_before_others_makes_the_lines_wait(tmp_path: Path) -> None:
    file = opened(tmp_path)
    for product in ("17", "18", "19"):
        file.save(of(product, line_2="open"))
    path = logs(tmp_path)[-1]
    path.write_bytes(path.read_bytes().replace(b'"18"', b'"1X"'))
    kept = SnapshotFile(tmp_path).load()
    assert products(kept) == {"line-1": None, "line-2": None}
    assert lost(kept) == ["line-1", "line-2"]


@pytest.mark.parametrize("damage", [b"", b"{broken", b"\xff" * 100])
def test_a_damaged_snapshot_is_set_aside(tmp_path: Path, damage: bytes) -> None:
    opened(tmp_path).close()
    file = opened(tmp_path)
    file.save(of("17"))
    (tmp_path / "control.json").write_bytes(damage)
    assert products(SnapshotFile(tmp_path).load()) == {"line-1": "17"}, "the log has it"
    assert (tmp_path / "control.damaged.json").read_bytes() == damage
    for path in (*logs(tmp_path), tmp_path / "control.json"):
        path.write_bytes(damage)
    assert products(SnapshotFile(tmp_path).load()) == {}


def test_what_an_older_version_left_is_taken_up(tmp_path: Path) -> None:
    (tmp_path / "control.json").write_bytes(b'{"lines":{"line-1":{"product":"17"}},"v":1}')
    (tmp_path / "control.synced.json").write_bytes(b'{"lines":{"line-1":{"product":"16"}},"v":1}')
    file = SnapshotFile(tmp_path)
    assert file.load() == of("17")
    file.save(of("18"))
    file.close()
    assert not (tmp_path / "control.synced.json").exists()
    (tmp_path / "control.json").unlink()
    (tmp_path / "control.synced.json").write_bytes(b'{"lines":{"line-1":{"product":"16"}},"v":1}')
    assert SnapshotFile(tmp_path).load() == of("16")


def test_the_medium_has_all_of_it_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fdatasync

    def noted(descriptor: int) -> None:
        real(descriptor)
        if Path(f"/proc/self/fd/{descriptor}").readlink().is_relative_to(tmp_path):  # others' threads may still sync
            synced.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fdatasync", noted)
    file = opened(tmp_path)
    for number in range(100):
        file.save(of(f"p{number}"))
    size_bytes = logs(tmp_path)[-1].stat().st_size
    until(lambda: size_bytes in synced)
    assert len(synced) < 10, "a sync costs more flash than the record"
    file.close()


# a disk that takes nothing


def test_on_a_full_disk_the_line_waits_instead_of_going_back(small_disk: Path) -> None:
    told: list[Noticed] = []
    file = opened(small_disk, told)
    file.save(of("16", line_2="open"))
    filler = fill(small_disk)
    _use_up(file, small_disk)
    file.save(of("17", line_2="open"))
    assert [(one.code, one.on) for one in told] == [(STATE_DISK, True)]
    assert "No space left" in str(told[0].detail)
    # killed: nobody closes it; the next one finds the disk as full
    again = SnapshotFile(small_disk)
    kept = again.load()
    assert products(kept) == {"line-1": None, "line-2": "open"}
    assert lost(kept) == ["line-1"]
    # what comes then is lost as well, and what was lost stays so
    again.save(of("18", line_2="shut"))
    kept = SnapshotFile(small_disk).load()
    assert products(kept) == {"line-1": None, "line-2": None}
    filler.unlink()
    last = opened(small_disk, told)
    assert lost(last.load()) == ["line-1", "line-2"]
    last.save(of("19", line_2="shut"))
    assert SnapshotFile(small_disk).load() == of("19", line_2="shut")


def test_space_that_comes_back_ends_it(small_disk: Path) -> None:
    told: list[Noticed] = []
    file = opened(small_disk, told)
    file.save(of("16"))
    filler = fill(small_disk)
    _use_up(file, small_disk)
    file.save(of("17"))
    file.tick(time.monotonic())
    file.tick(LATER_S)
    assert [one.on for one in told] == [True], "still full"
    filler.unlink()
    file.tick(LATER_S + 1)
    file.tick(LATER_S + 100)
    assert [one.on for one in told] == [True, False]
    assert SnapshotFile(small_disk).load() == of("17")
    file.save(of("18"))
    assert SnapshotFile(small_disk).load() == of("18")


def test_answers_that_cannot_be_written_cost_no_line_its_product(small_disk: Path) -> None:
    file = opened(small_disk)
    file.save(of("16"))
    fill(small_disk)
    _use_up(file, small_disk)
    file.save(Snapshot(lines=of("16").lines, answers=answered(*range(100))))
    assert products(SnapshotFile(small_disk).load()) == {"line-1": "16"}


def _use_up(file: SnapshotFile, folder: Path) -> None:
    """Use what the last block of the log has left, in the words of another writer of it."""
    assert file._log is not None
    log = logs(folder)[-1]
    with contextlib.suppress(OSError):
        while log.stat().st_size < 4096:
            file._log.append(b"{}")


def test_with_a_limit_on_files_it_is_the_same(tmp_path: Path) -> None:
    """EFBIG, in a process of its own: what has no tmpfs to fill."""
    file = opened(tmp_path)
    file.save(of("16"))
    size_bytes = max(path.stat().st_size for path in tmp_path.iterdir())
    file.close()
    script = (
        "import sys, resource, pathlib\n"
        "from agent.app.state_disk.snapshot_file import SnapshotFile\n"
        "from agent.control.snapshot import LineSnapshot, Snapshot\n"
        "told = []\n"
        "file = SnapshotFile(pathlib.Path(sys.argv[1]), told.append)\n"
        "file.load()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))\n"
        "file.save(Snapshot(lines={'line-1': LineSnapshot(product='17')}))\n"
        "print(told[0].code, told[0].on, flush=True)\n"
        "import os; os._exit(0)\n"
    )
    assert size_bytes > 20
    ended = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == [STATE_DISK, "True"]
    assert lost(SnapshotFile(tmp_path).load()) == ["line-1"]


def test_a_read_only_disk_makes_a_new_start_wait(small_disk: Path) -> None:
    """Nothing can be marked there, so that what it holds cannot be believed."""
    told: list[Noticed] = []
    file = opened(small_disk, told)
    file.save(of("16"))
    file._disk.close()
    assert file._log is not None
    file._log.close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    file = SnapshotFile(small_disk, told.append)
    assert lost(file.load()) == ["line-1"]
    assert [(one.code, one.on) for one in told] == [(STATE_DISK, True)]
    file.save(of("17"))
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    file.tick(time.monotonic())
    file.tick(LATER_S)
    assert SnapshotFile(small_disk).load() == of("17")


def test_a_sync_that_fails_is_said_and_all_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Noticed] = []
    file = opened(tmp_path, told)

    def broken(_file: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", broken)
        file.save(of("17"))
        until(lambda: _ticked(file) and told)
    assert (told[0].code, told[0].on) == (STATE_DISK, True)
    file.save(of("18"))
    file.tick(time.monotonic())
    file.tick(LATER_S)
    assert told[-1].on is False
    file.close()
    assert SnapshotFile(tmp_path).load() == of("18")


def _ticked(file: SnapshotFile) -> bool:
    file.tick(time.monotonic())
    return True


def test_a_place_that_cannot_be_written_is_said_once_and_survived(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file, where a folder should be")
    file = SnapshotFile(tmp_path / "state")
    for number in range(3):
        file.save(of(f"p{number}"))
        file.tick(LATER_S + 10 * number)
    assert [record.message.split()[0] for record in caplog.records] == ["event=snapshot_unwritten"]
    file.close()


def test_killed_at_any_moment_what_was_saved_is_there(tmp_path: Path) -> None:
    """A process that says each save after it returned; whatever it said must be found, also while it folds."""
    number = 0
    for delay_s in (0.0, 0.01, 0.03, 0.1, 0.2):
        child = subprocess.Popen(
            [sys.executable, "-c", _SAVER, tmp_path, str(number)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        assert child.stdout.readline()
        time.sleep(delay_s)
        child.send_signal(signal.SIGKILL)
        said = [line for line in child.stdout.read().split("\n") if line.isdecimal()]
        child.stdout.close()
        child.wait()
        last = int(said[-1]) if said else number + 1
        kept = SnapshotFile(tmp_path).load()
        number = int(kept.lines["line-1"].product or 0)
        assert number in {last, last + 1}
        wanted = {f"id-{one}" for one in range(max(1, number - 50), number + 1)}
        assert wanted <= {one.ack.id for one in kept.answers}


_SAVER = """
import sys, pathlib
from agent.app.state_disk import snapshot_file
from agent.control.snapshot import Answered, LineSnapshot, Snapshot
from agent.messages.payloads import Ack
snapshot_file.LOG_BYTES = 3000
file = snapshot_file.SnapshotFile(pathlib.Path(sys.argv[1]))
answers = file.load().answers
number = int(sys.argv[2])
while True:
    number += 1
    answers = (*answers, Answered("t", Ack(f"id-{number}", "t", "done")))[-100:]
    file.save(Snapshot(lines={"line-1": LineSnapshot(product=str(number))}, answers=answers))
    print(number, flush=True)
"""


_AS_ANOTHER_USER = """
import os, sys
from pathlib import Path
from agent.app.state_disk.snapshot_file import SnapshotFile
from agent.app.state_disk.state_folder import taken
from agent.control.snapshot import LineSnapshot, Snapshot

folder, told = Path(sys.argv[1]), []
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
with taken(folder, "box"):
    file = SnapshotFile(folder, told.append)
    file.load()
    for number in range(3):
        file.save(Snapshot(lines={"line-1": LineSnapshot(product=str(number))}))
        file.tick(number * 10.0)
    file.close()
print({(one.code, one.on) for one in told})
"""


@pytest.fixture
def open_path() -> Iterator[Path]:
    """Make a folder that every user reaches, which `tmp_path` is not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o555])
@pytest.mark.parametrize("closed", ["state", "."])
def test_a_folder_closed_to_the_user_is_told_and_the_agent_runs_on(open_path: Path, closed: str, mode: int) -> None:
    folder = open_path / "state"
    folder.mkdir()
    opened(folder).close()
    (folder / "cache").mkdir()
    closed_folder = open_path / closed
    closed_folder.chmod(mode)
    try:
        command = [sys.executable, "-c", _AS_ANOTHER_USER, str(folder)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    finally:
        closed_folder.chmod(0o700)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == str({(STATE_DISK, True)}) + "\n"
    assert "Traceback" not in ended.stderr
