"""The installed systemd service: its state, and commands run inside its sandbox."""

import os
import shutil
import subprocess
from typing import Final

from agent import isolated
from agent.messages.errors import MistakeError

UNIT: Final = "changeover.service"
_OURS: Final = ("Exec", "Type", "Restart", "Notify", "Watchdog", "Timeout", "Standard", "KillMode", "OOMPolicy")
"""Settings of the unit that a one-shot command must not inherit."""


def is_running() -> bool:
    """Return True where the service is active on this device."""
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        return False
    asked = subprocess.run([systemctl, "is-active", UNIT], capture_output=True, check=False, timeout=30)
    return asked.returncode == 0


def run_inside(arguments: list[str]) -> int:
    """Run `changeover ARGUMENTS` with the service's user, devices and limits; return the exit code."""
    systemctl, systemd_run = shutil.which("systemctl"), shutil.which("systemd-run")
    if systemctl is None or systemd_run is None:
        raise MistakeError("--as-service needs systemd, which is not here")
    if os.geteuid() != 0:
        raise MistakeError("--as-service needs root: sudo changeover doctor --as-service")
    unit = subprocess.run([systemctl, "cat", UNIT], capture_output=True, text=True, check=False, timeout=30)
    if unit.returncode:
        raise MistakeError(f"--as-service needs the service: there is no {UNIT} (scripts/install)")
    properties = [f"--property={one}" for one in sandbox_of(unit.stdout)]
    command = [systemd_run, "--quiet", "--pipe", "--wait", "--collect", *properties]
    return subprocess.run([*command, *isolated.command("agent", *arguments)], check=False).returncode


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
