"""A small HTTP server of files with Range and ETag, which cuts, lies, stalls and redirects where it is told to."""

import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

_RANGE: Final = re.compile(r"bytes=(\d+)-")
_CHUNK_BYTES: Final = 8 << 10


@dataclass
class Served:
    """One file, and what is wrong with its server; the defaults are those of a good one."""

    content: bytes = b""
    etag: str = '"1"'
    modified: str = ""
    ranges: bool = True
    claims: int | None = None
    """Content-Length to claim instead of the true one."""
    is_chunked: bool = False
    encoding: str = ""
    status: int = 200
    location: str = ""
    cuts: list[int] = field(default_factory=list)
    """Bytes of the body after which a request's connection is closed, of one request after the other."""
    hangs_after: int | None = None
    """Bytes of the body after which nothing more comes."""
    pause_s: float = 0.0
    """Pause before each chunk of `chunk_bytes`."""
    chunk_bytes: int = _CHUNK_BYTES
    user: str = ""
    """The only Authorization that is let in; empty: everybody."""
    headers: dict[str, str] = field(default_factory=dict)


class FileServer:
    """The server; `files` by path may be changed at any time."""

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.sent_bytes = 0
        self.requests: list[tuple[str, dict[str, str]]] = []
        """Path and headers of each request, in lower case."""
        self.posted: list[tuple[str, bytes]] = []
        """Path and body of each POST."""
        self.sent_of: Counter[str] = Counter()
        """Bytes of bodies sent, by path."""
        self.answering: Counter[str] = Counter()
        """Requests that are being answered, by path."""
        self._counting: Final = threading.Lock()
        self.connections = 0
        self.keeps_connections = False
        self.is_over: Final = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                server.connections += 1
                super().setup()

            def do_GET(self) -> None:
                server.answer(self)

            def do_POST(self) -> None:
                server.posted.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
                server.answer(self)

            def log_message(self, *_args: object) -> None:
                return

        self._http: Final = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True

    @property
    def netloc(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self._http.server_port}"

    def url(self, path: str) -> str:
        return f"http://{self.netloc}{path}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.split("?")[0]
        self._count(path, 1)
        try:
            self._answer(request, path)
        finally:
            self._count(path, -1)

    def _count(self, path: str, more: int) -> None:
        with self._counting:
            self.answering[path] += more

    def _answer(self, request: BaseHTTPRequestHandler, path: str) -> None:
        self.requests.append((request.path, {name.lower(): value for name, value in request.headers.items()}))
        served = self.files.get(path)
        if not self.keeps_connections:
            request.close_connection = True
        if served is None:
            self._refuse(request, 404)
        elif served.user and request.headers.get("Authorization") != served.user:
            self._refuse(request, 401, served.headers)
        elif served.location:
            self._refuse(request, served.status, {"Location": served.location})
        elif served.status != 200:
            self._refuse(request, served.status, served.headers)
        else:
            self._serve(request, served)

    def _refuse(self, request: BaseHTTPRequestHandler, status: int, headers: dict[str, str] | None = None) -> None:
        request.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": "0"}.items():
            request.send_header(name, value)
        request.end_headers()

    def _serve(self, request: BaseHTTPRequestHandler, served: Served) -> None:
        asked = _RANGE.fullmatch(request.headers.get("Range", ""))
        is_same = request.headers.get("If-Range", served.etag) in {served.etag, served.modified}
        start = int(asked[1]) if asked and served.ranges and is_same else 0
        size = len(served.content)
        if start >= size and start:
            self._refuse(request, 416, {"Content-Range": f"bytes */{size}"})
            return
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        if served.is_chunked:
            request.send_header("Transfer-Encoding", "chunked")
        else:
            request.send_header("Content-Length", str(served.claims if served.claims is not None else size - start))
        names = {"ETag": served.etag, "Last-Modified": served.modified, "Content-Encoding": served.encoding}
        for name, value in {**names, **served.headers}.items():
            if value:
                request.send_header(name, value)
        request.end_headers()
        try:
            self._send(request, served, served.content[start:])
        except OSError:
            return  # the client went away, as it may

    def _send(self, request: BaseHTTPRequestHandler, served: Served, body: bytes) -> None:
        most = served.cuts.pop(0) if served.cuts else len(body)
        sent = 0
        while sent < min(most, len(body)):
            if served.hangs_after is not None and sent >= served.hangs_after:
                self.is_over.wait()
                return
            if served.pause_s:
                self.is_over.wait(served.pause_s)
            chunk = body[sent : min(sent + served.chunk_bytes, most)]
            request.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if served.is_chunked else chunk)
            sent += len(chunk)
            self.sent_bytes += len(chunk)
            self.sent_of[request.path.split("?")[0]] += len(chunk)
        if served.is_chunked and most >= len(body):
            request.wfile.write(b"0\r\n\r\n")
        if most < len(body):
            request.close_connection = True
            request.connection.close()

    def start(self) -> None:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        self.is_over.set()
        self._http.shutdown()
        self._http.server_close()


@contextmanager
def file_server() -> Iterator[FileServer]:
    """Run a server for the length of the block."""
    server = FileServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()
