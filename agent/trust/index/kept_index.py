"""The index that a device has verified last, and the highest versions that it has ever seen, in one file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from agent.files import locked, open_regular, replace_file
from agent.messages.errors import MistakeError, ModelError, TransientError, denied
from agent.trust.index_state import FOLDER, STATE_FILE, IndexState, read_index_state

_FILE: Final = "index.json"
_MOST_BYTES: Final = 64 << 20
_PATIENCE_S: Final = 30.0


class Seen(msgspec.Struct, frozen=True):
    """The highest version seen of one role, with the sha256 of its file."""

    version: int
    sha256: str


class KeptIndex(msgspec.Struct, frozen=True):
    """Metadata as it was verified, by the names of an index's folder; every reader verifies it again."""

    anchor_sha256: str = ""
    """Hash of the configured root.json that all of it was verified from; another root begins anew."""
    files: dict[str, bytes] = {}
    seen: dict[str, Seen] = {}


class IndexKeeper:
    """Reads and replaces the kept index of a device, in its state folder."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir: Final = state_dir
        self._folder: Final = state_dir / FOLDER

    @property
    def file(self) -> Path:
        """The file that holds it."""
        return self._folder / _FILE

    def read(self) -> KeptIndex:
        """Return the kept index; an empty one before the first.

        Raises ModelError where it is there but unreadable, because an older index could otherwise come back.
        """
        try:
            with open_regular(self.file) as stream:
                return msgspec.json.decode(stream.read(_MOST_BYTES), type=KeptIndex)
        except FileNotFoundError:
            return KeptIndex()
        except (OSError, msgspec.MsgspecError) as error:
            detail = f"{self.file} cannot be read ({error}): import the index again after removing it"
            raise ModelError("unsigned", detail) from None

    def replace(self, old: KeptIndex, new: KeptIndex) -> None:
        """Replace the kept index `old` atomically, and return once it is on the disk.

        Raises TransientError where another process has replaced it meanwhile, and MistakeError where it cannot be
        written.
        """
        with self._alone(self.file):
            if self.read() != old:
                raise TransientError("another command has changed the index meanwhile: try again")
            replace_file(self.file, msgspec.json.encode(new), sync=True, mode=0o644)
            self._as_its_folder(self.file)

    def tell(self, kept: KeptIndex, state: IndexState) -> None:
        """Write the summary of `kept` for the control process, unless it says so already, or a newer index is kept.

        Raises what `replace` raises.
        """
        path = self._folder / STATE_FILE
        if read_index_state(self._state_dir) == state:
            return
        with self._alone(path):
            if self.read() == kept:
                replace_file(path, msgspec.json.encode(state), sync=True, mode=0o644)
                self._as_its_folder(path)

    @contextmanager
    def _alone(self, path: Path) -> Iterator[None]:
        """Run the block with the folder locked against other commands; its errors are of writing `path`."""
        try:
            self._make_folder()
            with locked(self._folder / "lock", _PATIENCE_S):
                yield
        except BlockingIOError:
            raise TransientError(f"another command is changing {path}: try again when it has ended") from None
        except PermissionError:
            raise MistakeError(denied(path)) from None
        except OSError as error:
            raise MistakeError(f"{path}: {(error.strerror or str(error)).lower()}") from None

    def _make_folder(self) -> None:
        if not self._folder.is_dir():
            self._folder.mkdir(parents=True, mode=0o755)
            self._as_its_folder(self._folder)

    def _as_its_folder(self, path: Path) -> None:
        """Give a file of an administrator's command to the service's user, who owns the folder around it."""
        if os.geteuid() == 0:
            owner = path.parent.stat()
            with suppress(OSError):
                os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
