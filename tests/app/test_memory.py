"""What outlives a killed process, a loss of power, and a damaged file."""

import threading
from pathlib import Path

import pytest

from agent.app.memory import SnapshotFile
from agent.control.snapshot import LineSnapshot, Snapshot


def of(product: str) -> Snapshot:
    return Snapshot(lines={"line-1": LineSnapshot(product=product)})


def test_what_was_saved_is_loaded_at_once_by_another_process(tmp_path: Path) -> None:
    file = SnapshotFile(tmp_path / "state")
    assert file.load() == Snapshot()
    for number in range(50):
        file.save(of(f"p{number}"))
        assert SnapshotFile(tmp_path / "state").load() == of(f"p{number}")
    file.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "snapshot"]


@pytest.mark.parametrize("damage", [b"", b"{broken", b"\xff" * 100])
def test_after_a_loss_of_power_the_synced_copy_holds(tmp_path: Path, damage: bytes) -> None:
    file = SnapshotFile(tmp_path)
    file.save(of("17"))
    file.close()
    (tmp_path / "control.json").write_bytes(damage)
    assert SnapshotFile(tmp_path).load() == of("17")
    assert (tmp_path / "control.damaged.json").read_bytes() == damage
    (tmp_path / "control.synced.json").write_bytes(damage)
    assert SnapshotFile(tmp_path).load() == Snapshot()


def test_the_copy_is_the_newest_one_in_the_end(tmp_path: Path) -> None:
    file = SnapshotFile(tmp_path)
    for number in range(200):
        file.save(of(f"p{number}"))
    file.close()
    (tmp_path / "control.json").unlink()
    assert SnapshotFile(tmp_path).load() == of("p199")


def test_nothing_is_written_where_nothing_changed(tmp_path: Path) -> None:
    file = SnapshotFile(tmp_path)
    file.save(of("17"))
    before = (tmp_path / "control.json").stat()
    file.save(of("17"))
    assert (tmp_path / "control.json").stat().st_ino == before.st_ino
    file.close()


def test_a_place_that_cannot_be_written_is_said_once_and_survived(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file, where a folder should be")
    file = SnapshotFile(tmp_path / "state")
    for number in range(3):
        file.save(of(f"p{number}"))
    assert [record.message.split()[0] for record in caplog.records] == ["event=snapshot_unwritten"]
    file.close()
