"""Checks, as the installed service's user, what it may read and write; each fault names the command that mends it."""

import os
import pwd
import shlex
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

UNIT: Final = "changeover.service"
USER: Final = "changeover"
HOME: Final = Path("/etc/changeover")
"""Folder of the service's configuration."""
DATA: Final = Path("/var/lib/changeover")
_WRITTEN: Final = ("outbox.*", "control.*", "cache")
"""Name patterns of the files that the agent writes in its state folder."""
_BOOTED: Final = Path("/run/systemd/system")
_OF_USERS: Final = (Path("/home"), Path("/root"), Path("/run/user"))
_TEMPORARY: Final = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - named, never written to
_ASKED: Final = ("LoadState", "User", "ProtectHome", "PrivateTmp", "ReadWritePaths", "BindPaths", "BindReadOnlyPaths")


class Fault(NamedTuple):
    """A file that the service cannot use, and the command that mends that."""

    found: str
    expected: str


@dataclass(frozen=True)
class Service:
    """The installed systemd service: its user, and which paths its unit hides from it or lets it write."""

    user: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    hidden: tuple[tuple[Path, str], ...]
    """Folders that are empty for the service, each with the setting that makes them so."""
    shown: tuple[Path, ...] = ()
    """Paths that the unit makes visible inside hidden folders (BindPaths=)."""
    writable: tuple[Path, ...] = (DATA,)
    credentials: tuple[str, ...] = ("mqtt-password", "mqtt-key")
    """Names of the files that systemd hands over (LoadCredential=)."""

    def unreadable(self, path: Path, wanted: Path = DATA) -> Fault | None:
        """Return why the service cannot read an existing `path`, else None; `wanted` is the folder to propose."""
        real = Path(os.path.realpath(path))
        setting = self._hidden_by(path) or self._hidden_by(real)
        if setting is not None:
            target = wanted / real.name
            kind = "rX" if real.is_dir() else "r"
            command = f"mv {_q(real)} {_q(target)} && {self._grant(target, kind, has_group=False)}"
            found = f"{path}, which the service does not see ({setting})"
            return Fault(found, f"a place that it sees: `{command}`, and that path here")
        with self._as_it():
            closed = next((folder for folder in reversed(real.parents) if not _may(folder, os.X_OK)), None)
            inner = closed or next(self._closed_files(real), None)
        if inner is None:
            return None
        kind = "x" if closed else "rX" if inner.is_dir() else "r"
        command = self._grant(inner, kind, has_group=inner.stat().st_gid == self.gid)
        return Fault(f"{inner}, which is closed to the user {self.user} ({_owner_of(inner)})", f"`{command}`")

    def not_handed_over(self, credential: Path) -> Fault | None:
        """Return why systemd does not pass this file of the credentials' folder to the service; None where it does."""
        name = credential.name
        if name in self.credentials:
            return None
        wanted = f"`systemctl edit {USER}` with [Service] and LoadCredential={name}:{credential}"
        handed = ", ".join(self.credentials) or "it hands over none"
        found = f'"credential:{name}", which systemd does not hand over ({handed})'
        return Fault(found, f"one that it does, or {wanted}")

    def unwritable(self, folder: Path) -> Fault | None:
        """Return why the service cannot write in its data folder, or to one of its files there; None where it can."""
        real = Path(os.path.realpath(folder))
        if not any(real.is_relative_to(one) for one in self.writable):
            wanted = f"a folder below {DATA}, or `systemctl edit {USER}` with [Service] and ReadWritePaths={real}"
            return Fault(f"{folder}, where the unit lets nothing be written", wanted)
        if not real.exists():
            return None
        files = [real, *(one for pattern in _WRITTEN for one in sorted(real.glob(pattern)))]
        with self._as_it():
            closed = next((one for one in files if not _may(one, os.W_OK)), None)
        if closed is None:
            return None
        found = f"{closed}, which the user {self.user} cannot write ({_owner_of(closed)})"
        return Fault(found, f"`chown -R {self.user}: {_q(real)}`")

    def _hidden_by(self, real: Path) -> str | None:
        if any(real.is_relative_to(one) for one in self.shown):
            return None
        return next((setting for folder, setting in self.hidden if real.is_relative_to(folder)), None)

    def _closed_files(self, real: Path) -> Iterator[Path]:
        is_folder = real.is_dir()
        if not _may(real, os.R_OK | os.X_OK if is_folder else os.R_OK):
            yield real
        elif is_folder:
            yield from (one for one in sorted(real.iterdir()) if not _may(one, os.R_OK))

    def _grant(self, path: Path, what: str, *, has_group: bool) -> str:
        recursive = "-R " if what == "rX" else ""
        change = f"chmod {recursive}g+{what} {_q(path)}"
        return change if has_group else f"chgrp {recursive}{self.user} {_q(path)} && {change}"

    @contextmanager
    def _as_it(self) -> Iterator[None]:
        """Run the block as the service's effective user and groups, so that the kernel checks access as for it."""
        groups, gid, uid = os.getgroups(), os.getegid(), os.geteuid()
        os.setgroups(self.groups)
        os.setegid(self.gid)
        os.seteuid(self.uid)
        try:
            yield
        finally:
            os.seteuid(uid)
            os.setegid(gid)
            os.setgroups(groups)


def service_of(file: Path) -> Service | None:
    """Return the service that reads the configuration `file`; None without one, or where the caller is not root."""
    if os.geteuid() != 0:
        return None
    settings = _unit()
    user = settings.get("User") or USER
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        return None
    real = Path(os.path.realpath(file))
    is_its = real.is_relative_to(HOME) or (real.exists() and real.stat().st_gid == account.pw_gid)
    return _service(account, settings) if is_its and account.pw_uid else None


def _service(account: pwd.struct_passwd, settings: dict[str, str]) -> Service:
    hidden = []
    if settings.get("ProtectHome", "yes") in {"yes", "tmpfs"}:
        hidden += [(folder, f"ProtectHome={settings.get('ProtectHome', 'yes')}") for folder in _OF_USERS]
    if settings.get("PrivateTmp", "yes") != "no":
        hidden += [(folder, "PrivateTmp=yes") for folder in _TEMPORARY]
    words = f"{settings.get('BindPaths', '')} {settings.get('BindReadOnlyPaths', '')}".split()
    shown = tuple(Path(word.split(":")[1] if ":" in word else word) for word in words)
    more = tuple(Path(word.lstrip("-+")) for word in settings.get("ReadWritePaths", "").split())
    groups = tuple(os.getgrouplist(account.pw_name, account.pw_gid))
    service = Service(account.pw_name, account.pw_uid, account.pw_gid, groups, tuple(hidden), shown, (DATA, *more))
    return replace(service, credentials=_credentials()) if settings else service


def _unit() -> dict[str, str]:
    """Return the installed unit's settings, drop-ins included; empty where systemd does not run or has no such unit."""
    text = _systemctl("show", UNIT, *(f"--property={name}" for name in _ASKED))
    settings = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return settings if settings.get("LoadState") == "loaded" else {}


def _credentials() -> tuple[str, ...]:
    # By the unit's text, because `systemctl show` of older systemds cannot print them.
    lines = (line.strip().partition("=") for line in _systemctl("cat", UNIT).splitlines())
    return tuple(value.partition(":")[0] for name, _, value in lines if name == "LoadCredential" and value)


def _systemctl(*arguments: str) -> str:
    """Return what systemctl prints; nothing where systemd does not run or does not answer."""
    systemctl = shutil.which("systemctl")
    if systemctl is None or not _BOOTED.is_dir():
        return ""
    try:
        answer = subprocess.run([systemctl, *arguments], capture_output=True, text=True, check=False, timeout=5)
    except subprocess.TimeoutExpired:
        return ""
    return answer.stdout


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=True)


def _owner_of(path: Path) -> str:
    found = path.stat()
    try:
        owner = path.owner()
    except KeyError:
        owner = str(found.st_uid)
    try:
        group = path.group()
    except KeyError:
        group = str(found.st_gid)
    return f"mode {stat.S_IMODE(found.st_mode):04o}, {owner}:{group}"


def _q(path: Path) -> str:
    return shlex.quote(str(path))
