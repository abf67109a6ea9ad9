"""Archive file whose members hold no secrets, and are limited in size, each and together."""

import io
import json
import os
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agent.messages.errors import MistakeError
from agent.support.scrubber import Scrubber

MEMBER_BYTES: Final = 2 << 20
"""Largest member; of a longer one, only the end is kept."""
WHOLE_BYTES: Final = 16 << 20


@dataclass
class Archive:
    """A gzipped tar file that is being written; every text goes through the scrubber."""

    tar: tarfile.TarFile
    folder: str
    """Name of the folder that all members lie in."""
    scrubber: Scrubber
    missing: list[str] = field(default_factory=list)
    """Parts that could not be added, each with the reason."""
    names: list[str] = field(default_factory=list)
    written_bytes: int = 0

    def text(self, name: str, text: str) -> None:
        """Add a member of text."""
        self._add(name, self.scrubber.text(text).encode("utf-8", "replace"))

    def document(self, name: str, value: Any) -> None:  # noqa: ANN401 - what JSON can hold
        """Add a member of JSON."""
        safe = self.scrubber.value(value)
        self._add(name, json.dumps(safe, indent=2, ensure_ascii=False, default=str).encode("utf-8", "replace") + b"\n")

    def lacks(self, what: str, why: object) -> None:
        """Record that a part is missing, and why."""
        self.missing.append(self.scrubber.text(f"{what}: {why}"))

    def _add(self, name: str, data: bytes) -> None:
        if len(data) > MEMBER_BYTES:
            data = b"[cut: the end of a longer text]\n" + data[-MEMBER_BYTES:].partition(b"\n")[2]
        if self.written_bytes + len(data) > WHOLE_BYTES:
            self.lacks(name, "the archive is full")
            return
        self.written_bytes += len(data)
        self.names.append(name)
        member = tarfile.TarInfo(f"{self.folder}/{name}")
        member.size, member.mode, member.mtime = len(data), 0o600, int(time.time())
        self.tar.addfile(member, io.BytesIO(data))


@contextmanager
def written(file: Path, scrubber: Scrubber) -> Iterator[Archive]:
    """Yield a new archive, readable by this user alone; it is removed where the block raises.

    Raises MistakeError where the file exists or cannot be written.
    """
    folder = file.name.partition(".")[0]
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise MistakeError(f"{file} is there already: give another name, or remove it") from None
    except OSError as error:
        raise MistakeError(
            f"{file} cannot be written: {error.strerror}; give a place: changeover support FILE"
        ) from None
    try:
        with os.fdopen(descriptor, "wb") as stream, tarfile.open(fileobj=stream, mode="w:gz") as tar:
            yield Archive(tar, folder, scrubber)
    except BaseException:
        file.unlink(missing_ok=True)
        raise
