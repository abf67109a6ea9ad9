"""Parts of the archive that need no configuration: versions, journal, service."""

import json
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Final

from agent import __version__
from agent.doctor import recorder
from agent.support.archive import Archive

UNIT: Final = "changeover.service"
_LINES: Final = 5000
_TIMEOUT_S: Final = 30.0
_SHOWN: Final = (
    "ActiveState,SubState,Result,ExecMainStatus,ExecMainStartTimestamp,ActiveEnterTimestamp,NRestarts,MainPID,StatusText,"
    "MemoryCurrent,MemoryPeak,MemoryMax,CPUUsageNSec,TasksCurrent,NeedDaemonReload,FragmentPath,DropInPaths,User"
)
_OPEN: Final = frozenset({"Environment", "SetCredential", "SetCredentialEncrypted", "PassEnvironment"})


def versions(archive: Archive) -> None:
    """Add the versions of agent, system and packages."""
    release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    archive.document(
        "versions.json",
        {
            "changeover": __version__,
            "python": sys.version,
            "system": release.get("PRETTY_NAME", ""),
            "kernel": platform.platform(),
            "machine": platform.machine(),
            "libc": " ".join(platform.libc_ver()),
            "systemd": (_said(["systemctl", "--version"]) or "").partition("\n")[0],
            "packages": dict(sorted((one.metadata["Name"], one.version) for one in metadata.distributions())),
        },
    )


def journal(archive: Archive) -> None:
    """Add the last lines of the service's journal."""
    said = _said(["journalctl", "--unit", UNIT, "--lines", str(_LINES), "--no-pager", "--output", "short-iso-precise"])
    if not said or said.startswith("-- No entries --"):
        archive.lacks("journal.txt", "no line can be read: run it with sudo, or there is no systemd service here")
        return
    archive.text("journal.txt", said)


def service(archive: Archive) -> None:
    """Add the service's state and its unit, without the values of its environment and comments."""
    state = _said(["systemctl", "show", f"--property={_SHOWN}", UNIT])
    unit = _said(["systemctl", "cat", UNIT])
    if state is None or unit is None:
        archive.lacks("service.txt", f"there is no {UNIT} here")
        return
    shown = [line for line in state.splitlines() if line.partition("=")[0] in _SHOWN.split(",")]
    archive.text("service.txt", "\n".join([*shown, "", *map(_setting, _statements(unit))]) + "\n")


def _statements(unit: str) -> Iterator[str]:
    """Yield a unit's lines; those that a backslash continues as one, without the comments in between."""
    begun = ""
    for line in unit.splitlines():
        is_comment = line.lstrip().startswith((";", "#"))
        if begun and is_comment:
            continue
        if line.endswith("\\") and not is_comment:
            begun += f"{line[:-1]} "
            continue
        yield begun + line
        begun = ""
    if begun:
        yield begun


def _setting(line: str) -> str:
    key, equals, value = line.partition("=")
    if line.lstrip().startswith((";", "#")) and not line.startswith("# /"):
        return "# ***"
    if equals and key.strip() in _OPEN:
        return f"{key}={_names(value) or '***'}"
    program, blank, _ = value.strip().partition(" ")
    if equals and key.strip().startswith("Exec") and blank and Path(program).name != "changeover":
        return f"{key}={program} ***"  # because no pattern tells mosquitto_pub's -P from an option without a secret
    return line


def _names(value: str) -> str:
    """Return the names of a list of variables, with each value hidden."""
    try:
        words = shlex.split(value)
    except ValueError:
        return ""
    return " ".join(f"{word.partition('=')[0]}=***" for word in words if "=" in word)


def _said(command: Sequence[str]) -> str | None:
    """Return a program's output; None where the program is missing or fails."""
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        answer = subprocess.run([program, *command[1:]], capture_output=True, check=False, timeout=_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.decode("utf-8", "replace") if answer.returncode == 0 else None


def recording(archive: Archive) -> None:
    """Add the hardware recording of `changeover doctor --record`."""
    archive.document("hardware.json", json.loads(recorder.record()))
