"""Connections are bounded: in number, for each network, and in the time that each part of a request may take."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from agent.web.serving import http_server
from agent.web.serving.http_server import ABORT, TIE, HttpServer
from agent.web.serving.listener import MOST, MOST_EACH, Listener, network_of

DEADLINE_S = 20.0
STAGE_S = 0.3
HEAD = b"GET / HTTP/1.1\r\nHost: box\r\n"
BODY = b"POST /%b HTTP/1.1\r\nHost: box\r\nContent-Length: 1000\r\n\r\n"


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("10.0.0.5", "10.0.0.5"),
        ("::ffff:10.0.0.5", "10.0.0.5"),
        ("fd00:1:2:3:4:5:6:7", "fd00:1:2:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_a_network_is_what_one_client_has_addresses_of(host: str, network: str) -> None:
    assert network_of(host) == network


@pytest.mark.parametrize(("most", "most_each"), [(3, 100), (100, 3)])
def test_connections_beyond_the_bound_are_closed_and_places_come_back(most: int, most_each: int) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while content := await reader.read(100):
                writer.write(content)
        writer.close()

    async def run() -> None:
        listener = Listener("127.0.0.1:0", most, most_each)
        async with await asyncio.start_server(answer, sock=listener), connected(listener) as first:
            async with connected(listener) as second, connected(listener) as third:
                held = (first, second, third)
                assert [await echoed(one) for one in held] == [b"x"] * 3
                async with connected(listener) as beyond:
                    assert await echoed(beyond) == b""
                assert [await echoed(one) for one in held] == [b"x"] * 3  # who is there is not disturbed
            found = b""
            while not found:
                async with connected(listener) as later:
                    found = await echoed(later)

    asyncio.run(asyncio.wait_for(run(), DEADLINE_S))


@pytest.mark.parametrize(
    ("first", "drip"),
    [
        (b"", b""),
        (b"GET /", b"x"),
        (HEAD, b"x: y\r\n"),
        (HEAD + b"\r\n", b"x"),
        (HEAD + b"\r\n" + HEAD, b"x: y\r\n"),
        (HEAD + b"\r\n", b"GET / HTTP/1.1\r\n"),
        (BODY % b"read", b""),
        (BODY % b"read", b"x"),
        (BODY % b"refused", b"x"),
        (b"POST /refused HTTP/1.1\r\nHost: box\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
)
@pytest.mark.usefixtures("quick")
def test_what_comes_byte_by_byte_ends(first: bytes, drip: bytes) -> None:
    async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        ended = asyncio.ensure_future(reader.read())
        while not ended.done():
            writer.write(drip)
            await asyncio.wait({ended}, timeout=0.02)
        with contextlib.suppress(ConnectionError):
            await ended

    served(drop)


@pytest.mark.usefixtures("quick")
def test_a_client_that_gets_on_keeps_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests one after the other, longer together than each may take, and an answer that takes longer than that."""
    has_come, take = asyncio.Event(), http_server._Protocol.data_received

    def taken(protocol: http_server._Protocol, data: bytes) -> None:
        take(protocol, data)
        has_come.set()

    monkeypatch.setattr(http_server._Protocol, "data_received", taken)

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for path in (b"refused", b"slow", b"refused", b"slow", b"refused"):
            request = b"GET /%b HTTP/1.1\r\nHost: box\r\n\r\n" % path
            has_come.clear()
            writer.write(request[:20])
            await has_come.wait()
            writer.write(request[20:])
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200"), path
            assert await reader.readexactly(2) == b"ok"

    served(ask)


@pytest.mark.parametrize("is_tied", [False, True])
def test_a_request_that_is_tied_to_its_client_ends_with_it(
    is_tied: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A login goes on, because its hash does; an inference ends, because its client's next requests need its place."""
    began, lost, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
    ends: list[str] = []

    async def wait(request: Request) -> Response:
        if is_tied:
            request.scope[TIE]()
        await request.body()
        began.set()
        try:
            while (await request.receive())["type"] != "http.disconnect":
                continue
            await asyncio.wait_for(lost.wait(), DEADLINE_S)
            ends.append("went on")
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise
        finally:
            ended.set()
        return PlainTextResponse("never")

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"POST /waits HTTP/1.1\r\nHost: box\r\nContent-Length: 2\r\n\r\nxx")
        await began.wait()
        writer.close()
        assert await reader.read() == b""
        lost.set()
        await ended.wait()

    served(ask, waits=wait)
    assert ends == (["cancelled"] if is_tied else ["went on"])
    assert not caplog.records


def test_a_request_that_ends_its_connection_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """It has to count how it ended."""
    went_on = asyncio.Event()

    async def abort(request: Request) -> Response:
        request.scope[TIE]()
        request.scope[ABORT]()
        for _ in range(10):  # turns of the loop, in which the connection is lost
            await asyncio.sleep(0)
        went_on.set()
        return PlainTextResponse("never")

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET /waits HTTP/1.1\r\nHost: box\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        await went_on.wait()

    served(ask, waits=abort)
    assert not caplog.records


def test_a_request_that_is_answered_goes_on_though_its_connection_ends_with_the_answer() -> None:
    """It counts how it ended, which is as it was answered."""
    went_on = asyncio.Event()

    async def end() -> None:
        for _ in range(10):  # turns of the loop, in which the connection is lost
            await asyncio.sleep(0)
        went_on.set()

    async def answer(request: Request) -> Response:
        request.scope[TIE]()
        return PlainTextResponse("ok", background=BackgroundTask(end))

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET /waits HTTP/1.1\r\nHost: box\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).endswith(b"ok")
        await went_on.wait()

    served(ask, waits=answer)


def test_as_many_connections_as_the_listener_takes_are_served() -> None:
    async def ask(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for _number in range(MOST - 1):
                reader, writer = await asyncio.open_connection(*writer.get_extra_info("peername"))
                stack.callback(writer.close)
            writer.write(HEAD + b"\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")

    served(ask, MOST)


def test_an_idle_server_wakes_once_a_second_for_the_date(monkeypatch: pytest.MonkeyPatch) -> None:
    slept_s: list[float] = []
    sleep = asyncio.sleep

    async def counted(delay_s: float) -> None:
        slept_s.append(delay_s)
        await sleep(0.01)

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while len(slept_s) < 3:
            await sleep(0.01)
        writer.write(HEAD + b"\r\n")
        assert b"\r\ndate: " in await reader.readuntil(b"\r\n\r\n")

    monkeypatch.setattr(asyncio, "sleep", counted)
    served(ask)
    assert set(slept_s) == {1.0}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each stage a moment."""
    monkeypatch.setattr(http_server, "_TIME_S", dict.fromkeys(http_server._TIME_S, STAGE_S))


def served(
    use: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    most_each: int = MOST_EACH,
    waits: Callable[[Request], Awaitable[Response]] | None = None,
) -> None:
    """Serve some routes, and run `use` on a connection; `waits` answers at /waits."""

    async def read(request: Request) -> Response:
        return PlainTextResponse(str(len(await request.body())))

    async def at_once(_: Request) -> Response:
        return PlainTextResponse("ok")

    async def slow(_: Request) -> Response:
        await asyncio.sleep(2 * STAGE_S)
        return PlainTextResponse("ok")

    methods = ["GET", "POST"]
    paths = {"/": at_once, "/read": read, "/refused": at_once, "/slow": slow, "/waits": waits or slow}
    app = Starlette(routes=[Route(path, answer, methods=methods) for path, answer in paths.items()])

    async def run() -> None:
        listener = Listener("127.0.0.1:0", most_each=most_each)
        serving = asyncio.ensure_future(HttpServer(app, listener, None).serve())
        try:
            async with connected(listener) as one:
                await asyncio.wait_for(use(*one), DEADLINE_S)
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            listener.close()

    asyncio.run(run())


@contextlib.asynccontextmanager
async def connected(listener: Listener) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def echoed(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bytes:
    """Send a byte, and return what comes back; b"" where the connection is closed."""
    reader, writer = connection
    with contextlib.suppress(ConnectionError):
        writer.write(b"x")
        return await reader.read(1)
    return b""
