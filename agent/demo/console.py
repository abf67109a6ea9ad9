"""The console of a demo: a free address, and users whose password holds for one run."""

import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.demo.plant_files import STATE
from agent.web.console.access.users import ROLES, Users

_HOST: Final = "127.0.0.1"
_PORT: Final = 8080
"""Taken where it is free."""


@dataclass(frozen=True)
class DemoConsole:
    """The console's address, and a user's name and password for it."""

    bind: str
    password: str

    @classmethod
    def prepare(cls, folder: Path) -> "DemoConsole":
        """Add a user for each role, of that name, to the plant in `folder`."""
        users, password = Users(folder / STATE), secrets.token_urlsafe(9)
        for role in ROLES:
            users.add(role, role, password)
        return cls(f"{_HOST}:{_free_port()}", password)

    @property
    def words(self) -> str:
        """The lines that the terminal shows."""
        return (
            f"\n  the console:  http://{self.bind}/  (in a moment)\n"
            f"  log in as:    {', '.join(ROLES)}\n"
            f"  password:     {self.password}  (of this run)\n\n"
        )


def _free_port() -> int:
    for port in (_PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    return _PORT
