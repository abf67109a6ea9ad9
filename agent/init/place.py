"""Place where a first configuration is written, with its owner and modes; existing files are not replaced."""

import grp
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.app.configuration.service_access import HOME, USER
from agent.files import sync_path
from agent.messages.errors import MistakeError
from agent.settings.environment import CONFIG
from agent.settings.fields import CREDENTIALS

_SECRET: Final = "mqtt-password"  # noqa: S105 - the name of a file
_OWN: Final = Path("changeover.toml")


@dataclass(frozen=True)
class Place:
    """Path of the configuration, and whether the systemd service reads it."""

    file: Path
    is_service: bool
    home: Path = HOME
    credentials: Path = Path(CREDENTIALS)

    @property
    def own(self) -> dict[str, dict[str, str]]:
        """Folders beside the configuration, as settings by table; empty where the service reads the configuration."""
        return {} if self.is_service else {"device": {"state_dir": "state"}, "catalog": {"store_dir": "models"}}

    def require_free(self) -> None:
        """Raise MistakeError where the configuration is there already."""
        if os.path.lexists(self.file):
            raise MistakeError(f"{self.file} is there already: change that, or give another place with --config")

    def password_file(self, given: Path | None, password: str | None) -> str | None:
        """Return the value for `mqtt.password_file`, or None without a password; `given` is a user's own file."""
        if given is not None and not self.is_service:
            return str(given.absolute())
        return None if password is None else f"credential:{_SECRET}" if self.is_service else _SECRET

    def prepare(self) -> None:
        """Make the folders that are missing. Raises MistakeError where that is impossible."""
        try:
            if self.is_service and not self.home.exists():
                self.home.mkdir(mode=0o750)
                self._give(self.home)
            if self.is_service and not self.credentials.exists():
                self.credentials.mkdir(mode=0o700)
            self.file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _refused(error, self.file) from None

    def keep_password(self, password: str) -> Path | None:
        """Write the broker's password to a file of its own; return its path, or None where the file holds it already.

        An empty file, as the service's installer leaves it, is replaced. Raises MistakeError where the file holds
        another password or cannot be written.
        """
        path = self.credentials / _SECRET if self.is_service else self.file.parent / _SECRET
        with suppress(OSError, UnicodeDecodeError):
            if path.read_text(encoding="utf-8-sig").rstrip("\r\n") == password:
                return None
        try:
            if path.exists() and path.stat().st_size == 0:
                path.unlink()
            _write_new(path, password + "\n", 0o600)
        except FileExistsError:
            raise MistakeError(f"{path} holds another password: remove it, or give --password-file {path}") from None
        except OSError as error:
            raise _refused(error, path) from None
        return path

    def forget_password(self, path: Path) -> None:
        """Undo `keep_password`; the service's file is emptied instead of removed, because systemd requires it."""
        if self.is_service:
            os.truncate(path, 0)
        else:
            path.unlink(missing_ok=True)

    def draft(self, text: str) -> Path:
        """Write the text to a temporary file beside the configuration, with its final owner and mode; return the path.

        Raises MistakeError where it cannot be written.
        """
        draft = self.file.with_name(f".{self.file.name}.{os.getpid()}")
        try:
            _write_new(draft, text, 0o640 if self.is_service else 0o600)
            self._give(draft)
        except OSError as error:
            raise _refused(error, draft) from None
        return draft

    def keep(self, draft: Path) -> None:
        """Give a draft the configuration's name. Raises MistakeError where that exists by now, or cannot be given."""
        try:
            os.link(draft, self.file)
            sync_path(self.file.parent)
        except FileExistsError:
            self.require_free()
        except OSError as error:
            raise _refused(error, self.file) from None

    def _give(self, path: Path) -> None:
        """Give a file or folder to the service's group, where the place is the service's, so that it can read it."""
        if self.is_service:
            with suppress(KeyError):
                os.chown(path, 0, grp.getgrnam(USER).gr_gid)


def place_of(config: Path | None, environ: Mapping[str, str]) -> Place:
    """Return the place that a user asked for, else the service's for root, else the working folder."""
    named = config or (Path(environ[CONFIG]) if environ.get(CONFIG) else None)
    is_root = os.geteuid() == 0
    file = (named or (HOME / _OWN if is_root else _OWN)).absolute()
    return Place(file, is_root and Path(os.path.realpath(file)).is_relative_to(HOME))


def _write_new(path: Path, text: str, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, mode)
        file.write(text)
        file.flush()
        os.fsync(descriptor)


def _refused(error: OSError, path: Path) -> MistakeError:
    return MistakeError(f"{error.filename or path}: {error.strerror}; may this user write there?")
