"""The pages' files, held in memory in both encodings; they hold no data, so they need no session."""

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from agent.web.console.access.guard import PATH
from agent.web.console.access.users import User

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_INDEX: Final = "index.html"
_LANGUAGES: Final = "lang"
_FOLDER: Final = Path(__file__).parent / "files"


@dataclass(frozen=True)
class _File:
    plain: bytes
    zipped: bytes
    type: str
    etag: str


class StaticFiles:
    """Answers with the files of `agent/web/console/files`; only names that were there at the start exist."""

    def __init__(self) -> None:
        self._files: Final[dict[str, _File]] = {}

    def load(self) -> None:
        """Read all files, some 200 KiB; adds a list of the languages, by the code that names each one's file."""
        for path in sorted(one for one in _FOLDER.rglob("*") if one.is_file()):
            self._add(path.relative_to(_FOLDER).as_posix(), path.read_bytes())
        languages = {
            path.stem: msgspec.json.decode(path.read_bytes())["language.name"]
            for path in sorted((_FOLDER / _LANGUAGES).glob("*.json"))
        }
        self._add(f"{_LANGUAGES}/index.json", msgspec.json.encode(languages))

    def _add(self, name: str, content: bytes) -> None:
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        kind = _TYPES.get(Path(name).suffix, "application/octet-stream")
        self._files[name] = _File(content, gzip.compress(content, mtime=0), kind, etag)

    def names(self) -> list[str]:
        """Return the names of all files, relative to their folder."""
        return sorted(self._files)

    def wired_bytes(self, name: str) -> int:
        """Return the size of a file as browsers get it, gzipped."""
        return len(self._files[name].zipped)

    async def to_index(self, _request: Request, _user: User | None) -> Response:
        """Lead from the root to the pages."""
        return RedirectResponse(f"{PATH}/", 307)

    async def answer(self, request: Request, _user: User | None) -> Response:
        """Answer with one file."""
        file = self._files.get(request.path_params.get("name") or _INDEX)
        if file is None:
            return Response("not found", 404, media_type="text/plain")
        # Asked for again each time, because an update must not leave old scripts beside new ones.
        headers = {"cache-control": "no-cache", "etag": file.etag, "vary": "accept-encoding"}
        if file.etag in _tags(request.headers.get("if-none-match", "")):
            return Response(status_code=304, headers=headers)
        if _takes_gzip(request.headers.get("accept-encoding", "")):
            return Response(file.zipped, headers={**headers, "content-encoding": "gzip", "content-type": file.type})
        return Response(file.plain, headers={**headers, "content-type": file.type})


def _tags(header: str) -> set[str]:
    """Return the tags of If-None-Match; a proxy that compresses has made them weak ones."""
    return {one.strip().removeprefix("W/") for one in header.split(",")}


def _takes_gzip(header: str) -> bool:
    """Return True where Accept-Encoding names gzip, and not with a weight of zero."""
    for one in header.lower().split(","):
        coding, _, weight = one.replace(" ", "").partition(";")
        if coding in {"gzip", "x-gzip"}:
            return weight.removeprefix("q=").strip("0.") != "" or not weight
    return False
