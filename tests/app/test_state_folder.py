"""One state folder is one agent's, and nobody else reads it."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.running_agent import RunningAgent

from agent.app.state_disk.state_folder import HOLDER_FILE, taken
from agent.messages.errors import EXIT_NOT_STARTED, NotStartedError

SERVICE = 12345
"""A user and group that is neither root nor anybody on a test machine."""


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode) for path in folder.rglob("*")}


def is_closed(folder: Path) -> bool:
    wanted = {path: 0o700 if path.is_dir() else 0o600 for path in folder.rglob("*")}
    found = {path: stat.S_IMODE(path.lstat().st_mode) for path in wanted}
    return stat.S_IMODE(folder.stat().st_mode) == 0o700 and found == wanted


def start_again(agent: RunningAgent, config: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "agent", "run", "--config", str(config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=agent.folder)


def test_a_second_agent_on_the_folder_ends_and_says_who_holds_it(running: RunningAgent) -> None:
    """The folder is known by itself, not by its name; the first agent's choices stay as they are."""
    (running.folder / "same").symlink_to("state")
    other = running.folder / "other.toml"
    text = running.config.read_text()
    other.write_text(text.replace('state_dir = "state"', 'state_dir = "same"').replace('id = "box"', 'id = "box-2"'))
    for config in (running.config, other):
        ended = start_again(running, config)
        assert ended.returncode == EXIT_NOT_STARTED, ended.stderr
        assert f"process {running.process.pid}" in ended.stderr
        assert "device box:" in ended.stderr
    assert running.process.poll() is None
    running.ready("17")
    running.kill()
    running.start()
    running.until_said("line/line-1/ready", "17", len(running.heard))


def test_the_folder_is_closed_whatever_it_was(make_agent: Callable[..., RunningAgent], tmp_path: Path) -> None:
    def left_open(settings: dict[str, Any]) -> None:
        state = tmp_path / settings["device"]["state_dir"]
        (state / "cache").mkdir(parents=True)
        for name in (
            "control.json",
            "control.synced.json",
            "outbox.db",
            "outbox.damaged-1.db",
            "cache/footprints.json",
        ):
            (state / name).write_bytes(b"")
            (state / name).chmod(0o666)
        (state / "cache").chmod(0o777)
        state.chmod(0o755)

    before = os.umask(0)
    try:
        agent = make_agent(left_open)
    finally:
        os.umask(before)
    state = agent.folder / "state"
    agent.until_said("status", "online")
    agent.ready("17")
    agent.until(lambda: (state / "cache" / "footprints.json").stat().st_size)
    assert is_closed(state), modes(state)
    agent.kill()


def test_a_folder_that_others_may_write_to_is_not_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    stranger = tmp_path / "of-somebody-else.txt"
    stranger.write_text("")
    stranger.chmod(0o644)
    with taken(tmp_path, "box"):
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o1777
        assert stat.S_IMODE(stranger.stat().st_mode) == 0o644
        assert stat.S_IMODE((tmp_path / HOLDER_FILE).stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start for another user")
def test_what_root_leaves_in_the_services_folder_is_the_services(tmp_path: Path) -> None:
    state, elsewhere = tmp_path / "state", tmp_path / "elsewhere.txt"
    (state / "cache" / "prepared").mkdir(parents=True)
    elsewhere.write_text("")
    (state / "control.json").write_text("{}")
    (state / "outbox.db").symlink_to(elsewhere)
    os.chown(state, SERVICE, SERVICE)
    with taken(state, "box"):
        pass
    owned = {path.name: path.stat().st_uid for path in state.rglob("*") if not path.is_symlink()}
    assert set(owned.values()) == {SERVICE}, owned
    assert {"control.json", "cache", "prepared", HOLDER_FILE} <= set(owned)
    assert elsewhere.stat().st_uid == 0, "a link is not followed"


def test_it_is_given_back_and_taken_from_nobody(tmp_path: Path) -> None:
    with (
        taken(tmp_path / "state", "one"),
        pytest.raises(NotStartedError, match=rf"process {os.getpid()}, device one"),
        taken(tmp_path / "state", "b"),
    ):
        pass
    with taken(tmp_path / "state", "two"):
        pass


def test_a_folder_that_cannot_be_had_is_gone_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "state").write_text("a file, where a folder should be")
    with taken(tmp_path / "state", "box"):
        assert caplog.records[0].message.startswith("event=state_folder_missing")
