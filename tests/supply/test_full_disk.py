"""A disk that is full at each of its writes: told as `no_space`, and nothing wrong or orphaned is left."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.fetches import Fetches, content_of, entry
from support.file_server import FileServer, Served

from agent.models.keeping.room import NoRoomError

CONTENT = content_of(300_000)
WRITES = {"os.mkdir", "os.rename", "os.truncate"}


class Disk:
    """Refuses one write of a folder, of those that are counted."""

    folder = ""
    left = -1
    count = 0

    @classmethod
    def audit(cls, event: str, arguments: tuple[Any, ...]) -> None:
        is_write = event in WRITES or (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_ACCMODE
        )
        if cls.folder and is_write and str(arguments[0]).startswith(cls.folder):
            cls.write()

    @classmethod
    def write(cls) -> None:
        cls.count += 1
        cls.left -= 1
        if cls.left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), cls.folder)


sys.addaudithook(Disk.audit)


@contextmanager
def full_at(folder: Path, write: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    plain = os.write

    def refused(descriptor: int, data: bytes) -> int:
        if str(Path(f"/proc/self/fd/{descriptor}").readlink()).startswith(str(folder)):
            Disk.write()
        return plain(descriptor, data)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", refused)
        Disk.folder, Disk.left, Disk.count = str(folder), write, 0
        try:
            yield
        finally:
            Disk.folder = ""


def reason_of(work: Callable[[], object]) -> str:
    """Return the reason for which a work failed; empty where it did not."""
    try:
        work()
    except NoRoomError as error:
        return error.reason
    return ""


def test_at_each_write_in_turn(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files["/cap.onnx"] = Served(CONTENT, chunk_bytes=100_000)
    model = entry(server.url("/cap.onnx"), CONTENT)
    refused = 0
    for write in range(1, 100):
        fetches = Fetches(tmp_path / str(write))
        fetches.folder.mkdir()
        with full_at(fetches.store_dir, write, monkeypatch):
            reason = reason_of(partial(fetches.fetch, model))
        refused += reason == "no_space"
        for found in fetches.store_dir.glob("sha256/*/model.onnx"):
            assert found.read_bytes() == CONTENT
        fetches.fetch(model)
        fetches.require_only(CONTENT)
        if Disk.count < write:
            break
        assert reason in {"no_space", ""}
    assert refused >= 8


@pytest.mark.parametrize("size_kb", [40, 120, 280, 300, 312])
def test_a_disk_that_is_too_small_says_so(server: FileServer, tmp_path: Path, size_kb: int) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "none", folder], check=False).returncode:
        pytest.skip("may not mount")
    try:
        server.files["/cap.onnx"] = Served(CONTENT, is_chunked=size_kb % 80 == 40)
        fetches = Fetches(folder)
        reason = reason_of(lambda: fetches.fetch(entry(server.url("/cap.onnx"), CONTENT)))
        assert reason in {"no_space", ""}
        fetches.require_only(*[] if reason else [CONTENT])
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_the_quota_is_kept_and_what_nobody_names_goes_for_it(server: FileServer, tmp_path: Path) -> None:
    fetches = Fetches(tmp_path, max_bytes=700_000)
    for number in (1, 2):
        content = content_of(300_000, seed=number)
        server.files[f"/{number}.onnx"] = Served(content)
        [found] = fetches.fetch(entry(server.url(f"/{number}.onnx"), content))
        os.utime(Path(found["file"]), (number, number))
        os.utime(Path(found["file"]).parent, (number, number))
    server.files["/3.onnx"] = Served(CONTENT)
    fetches.fetch(entry(server.url("/3.onnx"), CONTENT))
    fetches.require_only(content_of(300_000, seed=2), CONTENT)


def test_what_must_stay_free_is_refused_before_the_first_byte(server: FileServer, tmp_path: Path) -> None:
    fetches = Fetches(tmp_path, min_free_bytes=1 << 60)
    server.files["/cap.onnx"] = Served(CONTENT)
    with pytest.raises(NoRoomError, match=r"catalog\.min_free") as refused:
        fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    assert refused.value.reason == "no_space"
    fetches.require_only()
