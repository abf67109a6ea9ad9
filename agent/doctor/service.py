"""The installed systemd service: its state and credentials, and commands run inside its sandbox."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from agent import isolated
from agent.doctor.finding import Finding, fail, note, ok
from agent.messages.errors import EXIT_FAILED, MistakeError

UNIT: Final = "changeover.service"
_OURS: Final = ("Exec", "Type", "Restart", "Notify", "Watchdog", "Timeout", "Standard", "KillMode", "OOMPolicy")
"""Prefixes of the unit's settings that a one-shot command must not inherit."""
_HELD: Final = ("User=", "Environment", "PassEnvironment", "LoadCredential", "SetCredential", "ImportCredential")
"""Prefixes of the unit's settings that are replaced by the running service's own values."""
_CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
_PREFIX: Final = "CHANGEOVER_"
_SUBJECT: Final = "service"


@dataclass(frozen=True)
class RunningService:
    """User, variables and credentials that the running service was started with, where this user may see them."""

    pid: int
    user: str
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Its variables named CHANGEOVER_..., which override the configuration."""
    credentials: Path | None = None
    """Folder of systemd's copies of its credentials; None where it has none, or this user cannot see it."""
    is_outdated: bool = False
    """True where the unit's files were changed after systemd read them."""

    def credential_files(self) -> list[Path]:
        """Return the files of its credentials, sorted; empty where they cannot be listed."""
        try:
            return sorted(self.credentials.iterdir()) if self.credentials is not None else []
        except OSError:
            return []


def running_service() -> RunningService | None:
    """Return the service that runs on this device; None where none runs."""
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        return None
    command = [systemctl, "show", "--property=ActiveState,MainPID,NeedDaemonReload", UNIT]
    asked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    shown = dict(line.split("=", 1) for line in asked.stdout.splitlines() if "=" in line)
    pid = shown.get("MainPID", "0")
    if shown.get("ActiveState") not in {"active", "reloading"} or not pid.isdecimal() or int(pid) == 0:
        return None
    try:
        process = psutil.Process(int(pid))
        user, environ = process.username(), process.environ()
    except psutil.AccessDenied:
        user, environ = "", {}
    except (psutil.Error, KeyError):
        return None
    folder = environ.get(_CREDENTIALS)
    return RunningService(
        pid=int(pid),
        user=user,
        environment={name: value for name, value in environ.items() if name.startswith(_PREFIX)},
        credentials=Path(folder) if folder else None,
        is_outdated=shown.get("NeedDaemonReload") == "yes",
    )


def try_service(running: RunningService, properties: list[str]) -> Iterator[Finding]:
    """Check whether the unit or the files of its credentials changed after the running service was started."""
    yield ok(_SUBJECT, f"runs as {running.user or 'another user'}, process {running.pid}")
    if running.is_outdated:
        yield note(_SUBJECT, "its unit was changed: `systemctl daemon-reload`, then `systemctl restart changeover`")
    if os.geteuid() != 0:
        yield note("credentials", "what the running service holds is seen by root alone: sudo changeover doctor")
        return
    held = {file.name: file for file in running.credential_files()}
    for name, source in _sources(properties):
        finding = _compare(name, Path(source), held.get(name))
        if finding is not None:
            yield finding


def _sources(properties: list[str]) -> Iterator[tuple[str, str]]:
    for one in properties:
        key, _, value = one.partition("=")
        name, _, source = value.partition(":")
        if key == "LoadCredential" and source.startswith("/"):
            yield name, source


def _compare(name: str, source: Path, held: Path | None) -> Finding | None:
    subject, cure = f"credential {name}", "`sudo systemctl restart changeover`, a reload does not read it again"
    try:
        now = source.read_bytes()
    except OSError as error:
        return note(subject, f"{source}: {(error.strerror or 'cannot be read').lower()}")
    if held is None:
        return fail(subject, f"the running service does not hold it: {cure}") if now else None
    try:
        is_same = held.read_bytes() == now
    except OSError as error:
        return note(subject, f"{held}: {(error.strerror or 'cannot be read').lower()}")
    if is_same:
        return ok(subject, "the running service holds what its file says") if now else None
    return fail(subject, f"{source} was changed, and the running service holds the earlier one: {cure}")


def run_inside(arguments: list[str]) -> int:
    """Run `changeover ARGUMENTS` with the service's user, devices and limits; return the exit code.

    While the service runs, the command gets the credentials and variables that the service was started with. Raises
    MistakeError without systemd, without root, or where the service is not installed.
    """
    systemctl, systemd_run = shutil.which("systemctl"), shutil.which("systemd-run")
    if systemctl is None or systemd_run is None:
        raise MistakeError("--as-service needs systemd, which is not here")
    if os.geteuid() != 0:
        raise MistakeError("--as-service needs root: sudo changeover doctor --as-service")
    properties, running = unit_properties(), running_service()
    if properties is None:
        raise MistakeError(f"--as-service needs the service: there is no {UNIT} (scripts/install)")
    is_good = True
    if running is not None:
        for finding in try_service(running, properties):
            print(finding, flush=True)  # noqa: T201 - before what the other process prints
            is_good &= finding.verdict != "fail"
        properties = held_by(running, properties)
    variables = running.environment if running is not None else {}
    command = [systemd_run, "--quiet", "--pipe", "--wait", "--collect"]
    # by name only, because every user sees arguments
    command += [f"--setenv={name}" for name in variables] + [f"--property={one}" for one in properties]
    code = subprocess.run(
        [*command, *isolated.command("agent", *arguments)], check=False, env={**os.environ, **variables}
    ).returncode
    return code if is_good else code or EXIT_FAILED


def unit_properties() -> list[str] | None:
    """Return the unit's sandbox settings as `KEY=VALUE`; None where the unit is not installed."""
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        return None
    unit = subprocess.run([systemctl, "cat", UNIT], capture_output=True, text=True, check=False, timeout=30)
    return sandbox_of(unit.stdout) if unit.returncode == 0 else None


def held_by(running: RunningService, properties: list[str]) -> list[str]:
    """Return `properties` with the running service's user and credentials, and without environment settings."""
    kept = [one for one in properties if not one.startswith(_HELD)]
    user = [f"User={running.user}"] if running.user else [one for one in properties if one.startswith("User=")]
    return [*kept, *user, *(f"LoadCredential={file.name}:{file}" for file in running.credential_files())]


def sandbox_of(text: str) -> list[str]:
    """Return a unit's sandbox settings in order, from the output of `systemctl cat`."""
    found = []
    section = ""
    for line in text.splitlines():
        setting = line.strip()
        if setting.startswith("["):
            section = setting
        elif section == "[Service]" and "=" in setting and not setting.startswith(("#", ";", *_OURS)):
            found.append(setting)
    return found
