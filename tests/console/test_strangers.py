"""Strangers, and users of one session, can neither shut others out nor break anything."""

import asyncio
import json
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocketDisconnect
from support.console_here import HOST, ORIGIN, PASSWORD, ConsoleHere, TestClient

from agent.web.console.access.guard import COOKIE, HEADERS
from agent.web.console.access.known import KnownBrowsers
from agent.web.console.access.login import KNOWN
from agent.web.console.access.login_rate import ALL, PER_ADDRESS, LoginRate
from agent.web.console.access.places import MOST_EACH, Places
from agent.web.console.access.users import FOLDER

LOGIN = "/console/api/login"


def login(client: TestClient, name: str, password: str = PASSWORD, known: str = "") -> int:
    client.cookies.clear()
    cookies = {"cookie": f"{KNOWN}={known}"} if known else {}
    given = {"name": name, "password": password}
    return int(client.post(LOGIN, json=given, headers={**ORIGIN, **cookies}).status_code)


def known_of(client: TestClient, name: str) -> str:
    assert login(client, name) == 200
    return str(client.cookies[KNOWN])


def test_whoever_was_here_before_is_not_locked_out(client: TestClient) -> None:
    known = known_of(client, "operator")
    while login(client, "operator", "a wrong password") != 429:
        pass
    assert login(client, "operator") == 429, "a stranger at the same address"
    assert login(client, "operator", known=known) == 200


def test_a_known_browser_is_that_of_one_user_and_one_password(here: ConsoleHere, client: TestClient) -> None:
    known = known_of(client, "operator")
    while login(client, "admin", "a wrong password") != 429:
        pass
    assert login(client, "admin", known=known) == 429, "another user's"
    assert login(client, "operator", known="x." + "0" * 64) == 429
    assert login(client, "operator", known="x") == 429
    tries = [login(client, "operator", "a wrong password", known) for _ in range(PER_ADDRESS.tries + 1)]
    assert tries == [401] * PER_ADDRESS.tries + [429], "it guesses no more often than others"
    here.users.add("operator", "operator", "another password")
    assert login(client, "operator", "another password", known) == 429


def test_browsers_are_known_over_a_restart_and_without_a_disk(here: ConsoleHere, tmp_path: Path) -> None:
    user = here.users.get("viewer")
    assert user is not None
    first, second = KnownBrowsers(tmp_path), KnownBrowsers(tmp_path)
    first.load()
    second.load()
    assert second.is_of(first.cookie_of(user), user)
    assert not second.is_of(first.cookie_of(user), None)
    assert (tmp_path / FOLDER / "known.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "file").touch()
    without = KnownBrowsers(tmp_path / "file")
    without.load()
    assert without.is_of(without.cookie_of(user), user)


def test_all_strangers_together_use_up_no_known_browsers_tries() -> None:
    rate = LoginRate(lambda: 0.0)
    for number in range(ALL.tries):
        assert rate.take(f"10.0.0.{number}") == 0
    assert rate.take("10.0.1.1") > 0
    assert rate.take("10.0.1.1", "browser") == 0


def test_one_site_has_one_allowance_however_many_addresses() -> None:
    rate = LoginRate(lambda: 0.0)
    waits = [rate.take(f"fd00:1:2:3::{number:x}") for number in range(PER_ADDRESS.tries + 1)]
    assert waits.count(0) == PER_ADDRESS.tries


def test_requests_that_are_no_tries_cost_none(client: TestClient) -> None:
    for _ in range(3 * PER_ADDRESS.tries):
        assert (
            client.post(LOGIN, content=b"{", headers={**ORIGIN, "content-type": "application/json"}).status_code == 400
        )
        assert client.post(LOGIN, data={"name": "viewer"}, headers=ORIGIN).status_code == 415
    assert login(client, "viewer") == 200


def test_users_that_cannot_be_read_end_no_session(here: ConsoleHere, client: TestClient) -> None:
    cookie = here.cookie("viewer")
    file = here.folder / FOLDER / "users.json"
    good = file.read_bytes()
    file.write_text('{"users":[')
    for row in here.console.table():
        if row.method == "GET" and row.access != "public":
            answer = client.get(row.path, headers=cookie)
            assert (answer.status_code, answer.json()) == (503, {"error": "users_unreadable"}), row.path
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect(f"ws://{HOST}/console/api/pictures", headers={**ORIGIN, **cookie}),
    ):
        pass
    assert login(client, "viewer") == 503
    file.write_bytes(good)
    assert client.get("/console/api/session", headers=cookie).status_code == 200


def test_each_answer_without_a_body_ends(here: ConsoleHere, client: TestClient) -> None:
    for row in here.console.table():
        if row.method == "GET":
            path = row.path.replace("{name:path}", "app.js")
            answer = client.head(path, headers=here.cookie("viewer"))
            assert answer.status_code in {200, 307}, path


def test_what_is_not_there_has_the_strict_headers_too(client: TestClient) -> None:
    answers = [client.get("/nope"), client.put("/console/api/act"), client.delete("/console/"), client.get("/console")]
    assert [one.status_code for one in answers] == [404, 405, 405, 307]
    assert answers[-1].headers["location"] == "/console/"
    for one in answers:
        assert {name: one.headers.get(name) for name in HEADERS} == HEADERS


def test_over_tls_a_page_that_came_without_it_is_foreign(here: ConsoleHere, client: TestClient) -> None:
    path, cookie = "/console/api/session", here.cookie("viewer")

    def status(scheme: str, origin: str) -> int:
        headers = {"origin": f"{origin}://{HOST}", **cookie}
        return int(client.get(f"{scheme}://{HOST}{path}", headers=headers).status_code)

    assert status("https", "https") == 200
    assert status("https", "http") == 403
    assert status("http", "https") == 200, "a proxy ends TLS"
    assert status("http", "ftp") == 403


def test_one_session_takes_no_more_than_its_places() -> None:
    places = Places()
    taken = [places.taken("greedy") for _ in range(MOST_EACH)]
    for one in taken:
        one.__enter__()
    assert not places.has_for("greedy")
    assert places.has_for("another")
    taken[0].__exit__(None, None, None)
    assert places.has_for("greedy")
    others = [places.taken(f"one {number}") for number in range(25)]
    for one in others:
        one.__enter__()
    assert not places.has_for("another"), "all are taken"


def test_pages_beyond_a_sessions_places_are_refused_also_where_they_come_at_once(here: ConsoleHere) -> None:
    async def gone() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def sent(_: object) -> None:
        return

    async def run() -> None:
        events, greedy, other = here.console._events, here.token("viewer"), here.token("operator")

        async def ask(token: str) -> Response:
            cookie = (b"cookie", f"{COOKIE}={token}".encode())
            return await events.answer(Request({"type": "http", "headers": [cookie], "method": "GET"}), None)

        answers = [await ask(greedy) for _ in range(MOST_EACH + 1)]
        assert [one.status_code for one in answers] == [200] * MOST_EACH + [503]
        answers.append(await ask(other))
        assert answers[-1].status_code == 200
        for one in answers:
            await one({"type": "http"}, gone, sent)
        assert here.console.board.readers == set()
        assert (await ask(greedy)).status_code == 200

    asyncio.run(run())


def test_who_watches_pictures_is_noticed_to_have_gone_without_asking(here: ConsoleHere, client: TestClient) -> None:
    headers = {**ORIGIN, **here.cookie("viewer")}
    with client.websocket_connect(f"ws://{HOST}/console/api/pictures", headers=headers) as socket:
        here.users.remove("viewer")
        with pytest.raises(WebSocketDisconnect):
            socket.receive_text()


@pytest.mark.parametrize("act", ["models", "acknowledge", "cancel", "reload", "prepare"])
def test_an_act_forges_no_line_of_the_journal(
    here: ConsoleHere, client: TestClient, caplog: pytest.LogCaptureFixture, act: str
) -> None:
    asked = {"act": act, "line": "x\nevent=act user=admin", "value": {"rev": 1}, "confirmed": True}
    answer = client.post("/console/api/act", json=asked, headers={**ORIGIN, **here.cookie("admin")})
    assert (answer.status_code, answer.json()) == (400, {"error": "not_understood"})
    assert "user=admin" not in caplog.text
    assert here.commands == []


def test_a_long_value_is_sent_whole_and_told_short(
    here: ConsoleHere, client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for value in ({"rev": 1, "models": ["m" * 50_000]}, {"rev": 1, "models": []}):
        asked = {"act": "models", "value": value}
        assert (
            client.post("/console/api/act", json=asked, headers={**ORIGIN, **here.cookie("admin")}).status_code == 200
        )
    assert len(here.commands[0][2]) > 50_000
    assert len(caplog.text) < 10_000
    told = json.loads(here.console.board.document("console/acts"))["doc"]
    assert [type(one["value"]) for one in told] == [str, dict]
    assert len(told[0]["value"]) < 1000
