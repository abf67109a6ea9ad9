"""HTTP for sources: one client for each host of a job, credentials to their host alone, answers bounded."""

import http.cookiejar
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin, urlsplit

from agent.messages.errors import ModelError
from agent.redact import redact
from agent.supply.errors import SourceError
from agent.supply.sources.hosts import Hosts, origin_of

if TYPE_CHECKING:
    import httpx
    from typing_extensions import Self

_MOST_ANSWER_BYTES: Final = 4 << 20
"""Largest answer that is kept in memory: a manifest, a list, a signature."""
_REDIRECTS: Final = 5
_CONNECT_S: Final = 10.0
_KEPT_S: Final = 2.0
"""Time for which an idle connection is kept; shorter than that of most servers."""
_LEAST_BUFFER_BYTES: Final = 64 << 10
_BUFFERED_S: Final = 0.5
_MOVED: Final = (301, 302, 303, 307, 308)
_GONE: Final = (404, 410)
_DENIED: Final = (401, 403, 407)
_BUSY: Final = (408, 425, 429)
_SERVER_ERROR: Final = 500


class Web:
    """HTTP client of one job, which keeps its connections; a context manager. Calls may come from any thread."""

    def __init__(self, hosts: Hosts, *, stall_s: float, rate_bytes_s: float = 0.0) -> None:
        """`rate_bytes_s` keeps the kernel from receiving far ahead of a rate limit; 0: no limit."""
        self.hosts: Final = hosts
        self._stall_s: Final = stall_s
        self._rate_bytes_s: Final = rate_bytes_s
        self._lock: Final = threading.Lock()
        self._clients: Final[dict[tuple[str, str, int], httpx.Client]] = {}

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_error: object) -> None:
        """Close all connections; a later request opens new ones."""
        with self._lock:
            clients = list(self._clients.values())
            self._clients.clear()
        for client in clients:
            client.close()

    def get(self, url: str, headers: dict[str, str] | None = None, *, most_bytes: int = _MOST_ANSWER_BYTES) -> bytes:
        """Return the whole answer of a GET. Raises SourceError, or ModelError where a retry cannot help."""
        with self.open(url, self.hosts.authorization(url) | (headers or {})) as response:
            require_good(response)
            return read_bounded(response, most_bytes)

    def post(self, url: str, content: bytes) -> None:
        """Send JSON, which the server may be sent twice. Raises SourceError, or ModelError where no retry can help."""
        headers = self.hosts.authorization(url) | {"Content-Type": "application/json"}
        with self.open(url, headers, content) as response:
            require_good(response)

    @contextmanager
    def open(self, url: str, headers: dict[str, str], content: bytes | None = None) -> Iterator["httpx.Response"]:
        """Open the answer to a GET of `url`, or a POST of `content`, after its redirects; the caller reads the body.

        `headers` that authorize are sent to the host of `url` alone. Raises SourceError where the host cannot be
        reached, and ModelError for an address or a redirect that is refused.
        """
        import httpx  # noqa: PLC0415 - only a job that reaches a server needs it

        try:
            with ExitStack() as opened:
                yield self._follow(url, headers, opened, content)
        except httpx.TimeoutException as error:
            raise SourceError(
                "source_hung", f"{_shown(url)}: {type(error).__name__} after {self._stall_s:g} s"
            ) from None
        except (httpx.TransportError, httpx.StreamError) as error:
            words = f"{_shown(url)}: {redact(str(error)) or type(error).__name__}"
            if _is_distrust(error):
                wanted = "a certificate of the system's authorities, or of ca_file in [supply.host]"
                raise ModelError("source_refused", f"{words}, expected {wanted}") from None
            raise SourceError("cut_off", words) from None
        except (httpx.InvalidURL, UnicodeError):
            raise ModelError("source_refused", f"{_shown(url)}: found an address that is none") from None

    def _follow(self, url: str, headers: dict[str, str], opened: ExitStack, content: bytes | None) -> "httpx.Response":
        at, sent = url, headers
        for _ in range(_REDIRECTS + 1):
            _require_web(at)
            response = self._request(at, {"Accept-Encoding": "identity"} | sent, content)
            opened.callback(response.close)
            if content is not None or response.status_code not in _MOVED:
                return response
            to = _joined(at, response.headers.get("location", ""))
            require_redirect(at, to)
            if origin_of(to) != origin_of(url):
                sent = {name: value for name, value in sent.items() if name not in {"Authorization", "Cookie"}}
            at = to
        raise ModelError("source_refused", f"{_shown(url)}: more than {_REDIRECTS} redirects")

    def _request(self, url: str, headers: dict[str, str], content: bytes | None) -> "httpx.Response":
        """Send a request; once more where its connection ends before an answer, as an idle one may just then."""
        import httpx  # noqa: PLC0415 - as above

        client = self._client(url)
        request = client.build_request("GET" if content is None else "POST", url, headers=headers, content=content)
        try:
            return client.send(request, stream=True)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            return client.send(request, stream=True)

    def _client(self, url: str) -> "httpx.Client":
        """Return the client of a URL's host, with that host's authority."""
        origin = origin_of(url)
        with self._lock:
            if origin not in self._clients:
                self._clients[origin] = self._new_client(url)
            return self._clients[origin]

    def _new_client(self, url: str) -> "httpx.Client":
        """Return a client that reads neither the environment nor ~/.netrc, which may hold another host's secrets.

        It keeps no cookies either, because each request is to bear its own credentials and nothing else.
        """
        import httpx  # noqa: PLC0415 - as above

        options: list[tuple[int, int, int]] = []
        if self._rate_bytes_s:
            buffer_bytes = max(_LEAST_BUFFER_BYTES, int(self._rate_bytes_s * _BUFFERED_S))
            options = [(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)]
        tls = self.hosts.tls(url) if url.lower().startswith("https:") else False
        limits = httpx.Limits(keepalive_expiry=_KEPT_S)
        transport = httpx.HTTPTransport(verify=tls, socket_options=options, trust_env=False, limits=limits)
        timeout = httpx.Timeout(self._stall_s, connect=min(_CONNECT_S, self._stall_s))
        cookies = http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        return httpx.Client(
            transport=transport, timeout=timeout, cookies=cookies, follow_redirects=False, trust_env=False
        )


def require_good(response: "httpx.Response") -> None:
    """Raise for an answer that is no success: ModelError, or SourceError where a retry may help."""
    code = response.status_code
    url = _shown(str(response.request.url))
    if code in _GONE:
        raise ModelError("not_found", f"{url}: found {code}, nothing is there")
    if code in _DENIED:
        wanted = "credentials of this host in [supply.host] that may read it"
        raise ModelError("source_refused", f"{url}: found {code}, expected {wanted}")
    if code in _BUSY or code >= _SERVER_ERROR:
        raise SourceError("source_refused", f"{url}: found {code}, the server has no time or a fault")
    if not response.is_success:
        raise ModelError("source_refused", f"{url}: found {code}, expected 200")
    coding = response.headers.get("content-encoding", "identity").lower()
    if coding != "identity":
        raise ModelError("source_refused", f"{url}: found the encoding {coding!r}, expected the file as it is")


def read_bounded(response: "httpx.Response", most_bytes: int) -> bytes:
    """Return an answer's body. Raises ModelError where it is longer than `most_bytes`."""
    body = bytearray()
    for chunk in response.iter_raw():
        body += chunk
        if len(body) > most_bytes:
            url = _shown(str(response.request.url))
            raise ModelError("source_refused", f"{url}: the answer is longer than {most_bytes >> 10} KiB")
    return bytes(body)


def _require_web(url: str) -> None:
    scheme, host, _ = origin_of(url)
    if scheme not in {"http", "https"} or not host:
        raise ModelError("source_refused", f"{_shown(url)}: expected http:// or https:// and a host")
    if "@" in urlsplit(url).netloc:
        raise ModelError("source_refused", f"{_shown(url)}: credentials go into [supply.host], not into the URL")


def _joined(at: str, location: str) -> str:
    try:
        return urljoin(at, location)
    except ValueError:
        raise ModelError("source_refused", f"{_shown(at)}: found a redirect to an address that is none") from None


def require_redirect(at: str, to: str) -> None:
    """Raise ModelError where a server at one address may not send its clients to the other."""
    scheme = origin_of(to)[0]
    if scheme not in {"http", "https"} or (scheme == "http" and origin_of(at)[0] == "https"):
        what = f"a redirect to {scheme or 'nothing'}://"
        raise ModelError("source_refused", f"{_shown(at)}: found {what}, expected one to https://")


def _is_distrust(error: BaseException | None) -> bool:
    """Return True for an error that a certificate caused, which no retry cures."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _shown(url: str) -> str:
    return redact(url)
