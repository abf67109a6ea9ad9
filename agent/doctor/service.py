"""The installed service: whether it runs, and how to run a command inside its sandbox."""

import os
import shutil
import subprocess
from typing import Final

from agent import isolated
from agent.messages.errors import MistakeError

UNIT: Final = "changeover.service"
_OURS: Final = ("Exec", "Type", "Restart", "Notify", "Watchdog", "Timeout", "Standard", "KillMode", "OOMPolicy")
"""What a command that ends by itself does not take over."""


def is_running() -> bool:
    """Tell whether the service is active on this device."""
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        return False
    asked = subprocess.run([systemctl, "is-active", UNIT], capture_output=True, check=False, timeout=30)
    return asked.returncode == 0


def run_inside(arguments: list[str]) -> int:
    """Run `changeover ARGUMENTS` as the service would run: its user, its devices, its limits. Return the exit code."""
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
    """Return the settings of a unit's [Service] sections that make its sandbox, in order, from `systemctl cat`."""
    found = []
    section = ""
    for line in text.splitlines():
        setting = line.strip()
        if setting.startswith("["):
            section = setting
        elif section == "[Service]" and "=" in setting and not setting.startswith(("#", ";", *_OURS)):
            found.append(setting)
    return found
