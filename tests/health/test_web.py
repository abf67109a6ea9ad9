"""The HTTP server: pages, strangers, slow clients, and an address that cannot be had."""

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http import HTTPStatus

import pytest
from support.waiting import DEADLINE_S

from agent.health.metrics import http_server as module
from agent.health.metrics.http_server import HttpServer, Page
from agent.messages.errors import TransientError


@pytest.fixture
def web() -> Iterator[HttpServer]:
    def broken() -> Page:
        raise RuntimeError("a bug")

    pages = {"/metrics": lambda: Page(HTTPStatus.OK, "text/plain", b"changeover 1\n"), "/broken": broken}
    made = HttpServer("127.0.0.1:0", pages)
    made.start()
    yield made
    made.stop()


def ask(web: HttpServer, path: str, method: str = "GET") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=DEADLINE_S)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_pages_and_strangers(web: HttpServer) -> None:
    assert ask(web, "/metrics") == (200, b"changeover 1\n")
    assert ask(web, "/metrics?from=afar") == (200, b"changeover 1\n")
    assert ask(web, "/metrics", "HEAD") == (200, b"")
    assert ask(web, "/passwd") == (404, b"here are /broken, /metrics\n")
    assert ask(web, "/metrics", "POST")[0] == 501


def test_a_bug_in_a_page_ends_one_answer_and_not_the_server(web: HttpServer, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        ask(web, "/broken")
    said = [one.getMessage() for one in caplog.records if one.name.startswith("agent.health")]
    assert said == ["event=http_failed"]
    assert ask(web, "/metrics")[0] == 200


def test_a_client_that_says_nothing_is_dropped_and_others_are_served(web: HttpServer) -> None:
    with socket.create_connection(("127.0.0.1", web.port)) as mute:
        mute.sendall(b"GET /met")
        assert ask(web, "/metrics")[0] == 200
        mute.settimeout(DEADLINE_S)
        assert mute.recv(100) == b""


def test_a_client_that_drips_is_cut_off(web: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WHOLE_S", 0.5)
    with socket.create_connection(("127.0.0.1", web.port)) as drip, suppress(OSError):
        limit_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < limit_s:
            drip.sendall(b"G")
            time.sleep(0.05)
    assert time.monotonic() < limit_s
    assert ask(web, "/metrics")[0] == 200


def test_it_answers_soon_beside_fifty_clients_that_drip(web: HttpServer) -> None:
    over = threading.Event()
    threads = [threading.Thread(target=drip, args=(web, over), daemon=True) for _ in range(50)]
    for thread in threads:
        thread.start()
    try:
        waits_s = []
        for _ in range(8):
            began_s = time.monotonic()
            assert ask(web, "/metrics")[0] == 200
            waits_s.append(time.monotonic() - began_s)
            time.sleep(0.2)
        # one after the other, even two of them would hold an answer up for 4 s
        assert sorted(waits_s)[4] < 3, waits_s
    finally:
        over.set()
        for thread in threads:
            thread.join(DEADLINE_S)


def drip(web: HttpServer, over: threading.Event) -> None:
    """Begin a request, and never end it; begin anew when dropped."""
    while not over.is_set():
        with suppress(OSError), socket.create_connection(("127.0.0.1", web.port), DEADLINE_S) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
            while not over.wait(0.2):
                client.sendall(b"x")


def test_a_crowd_gives_way_to_who_comes_last(web: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CLIENTS", 4)
    monkeypatch.setattr(module, "_CLIENT_S", DEADLINE_S)
    before = threading.active_count()
    with ExitStack() as crowd:
        clients = [crowd.enter_context(socket.create_connection(("127.0.0.1", web.port))) for _ in range(12)]
        assert ask(web, "/metrics")[0] == 200
        clients[0].settimeout(DEADLINE_S)
        assert clients[0].recv(100) == b"", "the oldest was dropped"
        limit_s = time.monotonic() + DEADLINE_S
        while threading.active_count() > before + 4 and time.monotonic() < limit_s:
            time.sleep(0.05)
        assert threading.active_count() <= before + 4


def test_rubbish_is_answered_or_dropped(web: HttpServer) -> None:
    for rubbish in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20, b"GET " + b"a" * 100_000, b"\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", web.port)) as client, suppress(OSError):
            client.settimeout(DEADLINE_S)
            client.sendall(rubbish)
            client.shutdown(socket.SHUT_WR)
            while client.recv(4096):
                pass
    assert ask(web, "/metrics")[0] == 200


@pytest.mark.parametrize("bind", ["192.0.2.1:9108", "no-such-host.invalid:9108"])
def test_an_address_that_is_not_ours_is_a_transient_error(bind: str) -> None:
    with pytest.raises(TransientError, match="cannot be served"):
        HttpServer(bind, {}).start()


def test_a_taken_port_is_a_transient_error_and_free_again_later(web: HttpServer) -> None:
    second = HttpServer(f"127.0.0.1:{web.port}", {})
    with pytest.raises(TransientError):
        second.start()
    web.stop()
    second.start()
    second.stop()


def test_ipv6_loopback() -> None:
    try:
        with socket.socket(socket.AF_INET6) as free:  # asked of the system, not of the server under test
            free.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 loopback here")
    web = HttpServer("[::1]:0", {})
    web.start()
    with socket.create_connection(("::1", web.port)):
        pass
    web.stop()


def test_it_stops_soon_also_while_a_client_hangs(web: HttpServer) -> None:
    with socket.create_connection(("127.0.0.1", web.port)):
        began_s = time.monotonic()
        web.stop()
        assert time.monotonic() - began_s < DEADLINE_S
        assert web.port == 0
