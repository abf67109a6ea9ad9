"""The age of the signed index: told in health, and an alert once a newer one should have come."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from agent.app.observability.index_watch import IndexWatch
from agent.messages.events import Noticed
from agent.settings import Settings, load
from agent.trust.index_state import FOLDER, STATE_FILE, IndexState

PLANT = """
[device]
state_dir = "state"
[catalog]
root = "root.json"
[[stream]]
id = "cam-1"
line = "line-1"
source = "clip.avi"
[line.line-1]
default = "cap"
"""
Written = Callable[[float, float], Settings]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Write an index of this many days ago, whose time is over in so many days."""

    def write(age_days: float, left_days: float) -> Settings:
        now = dt.datetime.now(dt.timezone.utc)
        issued, expires = now - dt.timedelta(age_days), now + dt.timedelta(left_days)
        folder = tmp_path / "state" / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        kept = IndexState(issued.isoformat(), expires.isoformat())
        (folder / STATE_FILE).write_bytes(msgspec.json.encode(kept))
        (tmp_path / "changeover.toml").write_text(PLANT)
        return load(tmp_path / "changeover.toml", {})

    return write


@pytest.mark.parametrize(("left_days", "is_on"), [(10.0, False), (-1.0, True)])
def test_an_index_is_stale_once_its_time_is_over(written: Written, left_days: float, *, is_on: bool) -> None:
    settings, told = written(400.0, left_days), list[Noticed]()
    watch = IndexWatch(lambda: settings, told.append)
    watch.tick(1000.0)
    assert watch.age_s == pytest.approx(400 * 86_400, abs=60)
    assert [one.on for one in told] == [is_on]
    assert not is_on or "400 days old" in (told[0].detail or "")


def test_without_an_index_there_is_no_age(tmp_path: Path) -> None:
    (tmp_path / "changeover.toml").write_text(PLANT)
    settings, told = load(tmp_path / "changeover.toml", {}), list[Noticed]()
    watch = IndexWatch(lambda: settings, told.append)
    watch.tick(1000.0)
    assert (watch.age_s, [one.on for one in told]) == (None, [False])
