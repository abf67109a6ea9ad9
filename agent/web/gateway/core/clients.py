"""Clients that may send requests, and their limits."""

import hashlib
import hmac
import math
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from agent.files import replace_file
from agent.messages.web.control import WebClient
from agent.web.gateway.core.faults import RequestError
from agent.web.serving.tls import normal_subject

_HASH: Final = "sha256:"
_LEAST: Final = 16
"""Characters of a token; shorter ones can be guessed."""
_LONGEST_BYTES: Final = 4096
_TOKEN_BYTES: Final = 32
_FOLDER_MODE: Final = 0o755
_FILE_MODE: Final = 0o644
"""The service must read it, and a hash of 32 random bytes tells nobody the token."""


class Client:
    """One configured client, with what it has under way. For the event loop's thread."""

    def __init__(self, settings: WebClient, clock: Callable[[], float] = time.monotonic) -> None:
        self.name: Final = settings.name
        self.group: Final = settings.group
        self._settings: Final = settings
        self._clock: Final = clock
        self._inflight = 0
        self._credit = self._most_credit = max(1.0, settings.requests_per_s)
        self._credited_s = clock()

    def may_see(self, name: str, variant: str) -> bool:
        """Return True where a pattern matches the model's name, or NAME:VARIANT."""
        return any(fnmatchcase(text, one) for one in self._settings.models for text in (name, f"{name}:{variant}"))

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Run the block as one request. Raises RequestError("limited") beyond the client's rate or number in flight."""
        if self._inflight >= self._settings.max_inflight:
            detail = f"{self._settings.max_inflight} requests of {self.name} are under way"
            raise RequestError("limited", detail, retry_s=1.0)
        now_s = self._clock()
        gained = (now_s - self._credited_s) * self._settings.requests_per_s
        self._credit, self._credited_s = min(self._most_credit, self._credit + gained), now_s
        if self._credit < 1:
            wait_s = math.ceil((1 - self._credit) / self._settings.requests_per_s)
            detail = f"{self.name} may send {self._settings.requests_per_s:g} requests a second"
            raise RequestError("limited", detail, retry_s=float(wait_s))
        self._credit -= 1
        self._inflight += 1
        try:
            yield
        finally:
            self._inflight -= 1


class Clients:
    """All configured clients; tokens are kept as hashes only."""

    def __init__(self, clients: tuple[WebClient, ...]) -> None:
        self._by_token: Final[list[tuple[bytes, Client]]] = []
        self._by_subject: Final[dict[str, Client]] = {}
        self.faults: Final[list[str]] = []
        """Mistakes that keep a configured client from being let in."""
        for one in clients:
            why = self._added(one)
            if why:
                proof = "subject" if one.subject else "token_file"
                self.faults.append(f"client {one.name} is not let in: its {proof}: {why}")

    def _added(self, one: WebClient) -> str:
        """Add a client; return why it cannot be let in, empty where it can."""
        client = Client(one)
        if one.subject:
            other = self._by_subject.setdefault(normal_subject(one.subject), client)
        else:
            try:
                digest = _hash_in(Path(one.token_file))
            except OSError as error:
                return error.strerror or str(error)
            except ValueError as error:
                return str(error)
            other = next((known for found, known in self._by_token if found == digest), client)
            if other is client:
                self._by_token.append((digest, client))
        return "" if other is client else f"client {other.name} has the same"

    def counts(self) -> Counter[str]:
        """Return the number of clients that may be let in, by group."""
        return Counter(one.group for one in (*(client for _, client in self._by_token), *self._by_subject.values()))

    def authenticated(self, authorization: str, subject: str) -> Client:
        """Return the client of a header `Bearer TOKEN`, else of a certificate's subject.

        Raises RequestError("unauthorized"). A token is compared with all of them, in a time that tells nothing.
        """
        scheme, _, token = authorization.partition(" ")
        found: Client | None = None
        if scheme.lower() == "bearer" and len(token) <= _LONGEST_BYTES:
            given = hashlib.sha256(token.strip().encode("utf-8", "surrogatepass")).digest()
            for known, client in self._by_token:
                if hmac.compare_digest(known, given):
                    found = client
        elif not authorization and subject:
            found = self._by_subject.get(subject)
        if found is None:
            raise RequestError("unauthorized", "a valid token (Authorization: Bearer ...) or certificate is needed")
        return found


def new_token(file: Path) -> str:
    """Make a token and write its hash to a client's file; return the token, which nobody keeps. Raises OSError."""
    token = secrets.token_hex(_TOKEN_BYTES)
    _make_folder(file.parent)
    digest = hashlib.sha256(token.encode()).hexdigest()
    replace_file(file, f"{_HASH}{digest}\n".encode(), sync=True, mode=_FILE_MODE)
    return token


def _make_folder(folder: Path) -> None:
    """Make a folder that is missing, and those above it, so that the service may enter them whatever the umask."""
    if not folder.exists():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        folder.chmod(_FOLDER_MODE)


def holds_token(file: Path) -> bool:
    """Return True for a client's token file that holds the token itself instead of its hash. Raises OSError."""
    return not file.read_bytes()[:_LONGEST_BYTES].lstrip().startswith(_HASH.encode())


def _hash_in(file: Path) -> bytes:
    """Return the hash of a client's token, from a file with `sha256:HEX` or the token itself. Raises ValueError."""
    text = file.read_bytes()[:_LONGEST_BYTES].decode().strip()
    if text.startswith(_HASH):
        known = bytes.fromhex(text[len(_HASH) :])
        if len(known) != hashlib.sha256().digest_size:
            raise ValueError("sha256: and 64 hexadecimal digits are expected")
        return known
    if len(text) < _LEAST:
        raise ValueError(f"a token of {_LEAST} characters or more is expected, or sha256:HEX of one")
    return hashlib.sha256(text.encode()).digest()
