"""Holders of a device are named by program and process, as far as this user may see them."""

import os
import pty
import subprocess
import sys
from pathlib import Path

from agent.capture.video import holders_of


def test_another_process_is_named_and_this_one_is_not(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    name = os.ttyname(theirs)
    link = tmp_path / "by-id"
    link.symlink_to(name)
    code = "import sys; held = open(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen([sys.executable, "-c", code, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        (found,) = holders_of(str(link))
        assert found.endswith(f" (process {holder.pid})")
        assert found.startswith("python")
    finally:
        holder.communicate()
    assert holders_of(name) == []
    os.close(ours)
    os.close(theirs)


def test_files_and_what_is_not_there_have_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert holders_of(str(tmp_path / "file")) == holders_of(str(tmp_path / "nothing")) == []
