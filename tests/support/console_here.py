"""A console in this process: real routes, users and sessions, and a control that answers as a test says."""

import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from agent.messages.payloads import Ack
from agent.messages.web.control import Document
from agent.web.console.access.guard import COOKIE, unrouted
from agent.web.console.access.users import FOLDER, ROLES, Role, Users
from agent.web.console.console import Console, Outside
from agent.web.serving.documents import DocumentStore

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns of httpx, which the extra `supply` has, for a package that nothing has
    from starlette.testclient import TestClient

__all__ = ["HOST", "ORIGIN", "PASSWORD", "ConsoleHere", "TestClient"]

HOST = "box.plant"
ORIGIN = {"origin": f"http://{HOST}"}
PASSWORD = "a long password"


@cache
def _users_file() -> bytes:
    """Return the file with a user for each role, made once, because each hash takes a while."""
    with TemporaryDirectory() as name:
        for role in ROLES:
            Users(Path(name)).add(role, role, PASSWORD)
        return (Path(name) / FOLDER / "users.json").read_bytes()


@dataclass
class ConsoleHere:
    """One console, and what it sent to control."""

    folder: Path
    documents: DocumentStore = field(default_factory=DocumentStore)
    commands: list[tuple[str, str, bytes]] = field(default_factory=list)
    """User, topic and payload of each."""
    answer: Ack = field(default_factory=lambda: Ack(None, "", "done"))

    def __post_init__(self) -> None:
        self.users = Users(self.folder)
        path = self.folder / FOLDER / "users.json"
        path.parent.mkdir()
        path.write_bytes(_users_file())
        self.console = Console(Outside(self.folder, self.documents, self._command, {}, lambda _: None))

    async def _command(self, user: str, topic: str, payload: bytes) -> Ack:
        self.commands.append((user, topic, payload))
        return self.answer

    def publish(self, topic: str, payload: str, *, is_state: bool = True) -> None:
        self.documents.take((Document(topic, payload.encode(), is_state),))

    @contextmanager
    def client(self) -> Iterator[TestClient]:
        """Run the console, and give a browser that nobody has logged in with."""

        @asynccontextmanager
        async def running(app: Starlette) -> AsyncIterator[None]:
            self.console.start()
            app.router.routes.extend(self.console.routes())
            yield
            await self.console.stop()

        app = Starlette(lifespan=running, exception_handlers={HTTPException: unrouted})
        with TestClient(app, base_url=f"http://{HOST}", follow_redirects=False) as client:
            yield client

    def token(self, role: Role) -> str:
        """Begin a session of the user with that role."""
        user = self.users.get(role)
        assert user is not None
        return self.console.sessions.begin(user)

    def cookie(self, role: Role) -> dict[str, str]:
        return {"cookie": f"{COOKIE}={self.token(role)}"}
