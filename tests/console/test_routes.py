"""Each route of the console refuses whom it should: nobody, a lesser role, a page from elsewhere."""

import json
from typing import Any

import msgspec
import pytest
from httpx import Response
from starlette.websockets import WebSocketDisconnect
from support.console_here import HOST, ORIGIN, PASSWORD, ConsoleHere, TestClient

from agent.messages.payloads import Ack
from agent.web.console.access.guard import COOKIE, HEADERS, Row
from agent.web.console.access.users import ROLES, Role
from agent.web.console.acts import ACTS

ASKED = {"product", "model", "rollback", "reload"}
"""Acts for which a line may stop whatever they say; for `models` and `canary` it is a matter of what they say."""
FORGED = tuple(
    {"origin": origin}
    for origin in (
        "http://evil.example",
        "null",
        "",
        HOST,
        f"http://{HOST}.evil.example",
        f"http://{HOST}/",
        f"http://a@{HOST}",
        "http://[x",
        "http://[",
    )
)


def address(row: Row) -> str:
    return row.path.replace("{name:path}", "app.js")


def call(client: TestClient, row: Row, headers: dict[str, str]) -> int:
    """Call a route and return its status; that of a socket is 101 where it is opened, 403 where it is not."""
    if row.method == "WS":
        try:
            with client.websocket_connect(f"ws://{HOST}{address(row)}", headers=headers):
                return 101
        except WebSocketDisconnect:
            return 403
    body: dict[str, str] | None = {} if row.method == "POST" else None
    answer: Response = client.request(row.method, address(row), headers=headers, json=body)
    return answer.status_code


def closed(here: ConsoleHere) -> list[Row]:
    return [row for row in here.console.table() if row.access != "public"]


def test_no_route_answers_without_a_session(here: ConsoleHere, client: TestClient) -> None:
    rows = closed(here)
    assert len(rows) >= 6
    for row in rows:
        assert call(client, row, ORIGIN) == (403 if row.method == "WS" else 401), row.path
        wrong = {**ORIGIN, "cookie": f"{COOKIE}=no-such-token"}
        assert call(client, row, wrong) == (403 if row.method == "WS" else 401), row.path


def test_public_routes_hold_nothing_of_the_device(here: ConsoleHere, client: TestClient) -> None:
    here.publish("meta", '{"device":"secret-box"}')
    public = [row for row in here.console.table() if row.access == "public"]
    assert {row.path for row in public} == {"/", "/console", "/console/{name:path}", "/console/api/login"}
    for name in here.console.files.names():
        assert "secret-box" not in client.get(f"/console/{name}").text


def test_no_route_answers_a_page_from_elsewhere(here: ConsoleHere, client: TestClient) -> None:
    for row in here.console.table():
        for forged in FORGED:
            assert call(client, row, {**forged, **here.cookie("admin")}) == 403, (row.path, forged)


def test_no_change_is_made_for_a_request_without_an_origin(here: ConsoleHere, client: TestClient) -> None:
    for row in here.console.table():
        if row.method != "GET":
            assert call(client, row, here.cookie("admin")) == 403, row.path


def test_each_act_is_for_its_role_and_those_above(here: ConsoleHere, client: TestClient) -> None:
    assert {act.role for act in ACTS.values()} == {"operator", "admin"}, "a viewer only sees"
    for name, act in ACTS.items():
        for role in ROLES:
            here.commands.clear()
            answer = post(client, here, role, example(name))
            may = ROLES.index(role) >= ROLES.index(act.role)
            assert (answer.status_code, len(here.commands)) == ((200, 1) if may else (403, 0)), (name, role)


def test_an_act_that_stops_a_line_asks_first(here: ConsoleHere, client: TestClient) -> None:
    for name in ACTS:
        here.commands.clear()
        answer = post(client, here, "admin", {**example(name), "confirmed": False})
        expected = (409, 0) if name in ASKED else (200, 1)
        assert (answer.status_code, len(here.commands)) == expected, name
        assert post(client, here, "admin", example(name)).status_code == 200, name


CANDIDATE = {"candidate": "cap-check:n@4", "mode": "shadow"}


@pytest.mark.parametrize(
    ("name", "value", "is_asked"),
    [
        ("models", {"rev": 1, "models": []}, False),
        ("models", {"rev": 1, "models": [], "activate": "changeover"}, False),
        ("models", {"rev": 1, "models": [], "activate": "now"}, True),
        ("models", {"rev": 1, "models": [], "activate": "window"}, True),
        ("canary", "stop", False),
        ("canary", {"value": "stop"}, False),
        ("canary", "promote", True),
        ("canary", {"value": "promote"}, True),
        ("canary", {**CANDIDATE, "promote": "ask"}, False),
        ("canary", {**CANDIDATE, "promote": "auto"}, True),
        ("canary", CANDIDATE, True),
        ("canary", {"value": {**CANDIDATE, "promote": "auto"}, "promote": "ask"}, True),
    ],
)
def test_what_an_act_says_decides_where_a_line_may_stop(
    here: ConsoleHere, client: TestClient, name: str, value: object, *, is_asked: bool
) -> None:
    request = {**example(name), "value": value}
    answer = post(client, here, "admin", {**request, "confirmed": False})
    assert (answer.status_code, len(here.commands)) == ((409, 0) if is_asked else (200, 1))
    here.commands.clear()
    answer = post(client, here, "admin", request)
    assert (answer.status_code, len(here.commands)) == (200, 1)


def test_acts_are_the_commands_of_the_contract_and_name_the_user(here: ConsoleHere, client: TestClient) -> None:
    for name in ACTS:
        post(client, here, "admin", example(name))
    said = {topic: payload for _, topic, payload in here.commands}
    assert {user for user, _, _ in here.commands} == {"admin"}
    assert json.loads(said["line/line-1/product/set"])["value"] == "bottle-500"
    assert json.loads(said["cmd/rollback"])["line"] == "line-1"
    assert json.loads(said["cmd/acknowledge"])["code"] == "camera"
    assert json.loads(said["cmd/cancel"])["job"] == "job-7"
    assert said["line/line-1/canary/set"] == b"stop"
    assert all(json.loads(payload)["id"] for topic, payload in said.items() if not topic.endswith("canary/set"))


def test_an_act_stands_on_the_board_with_its_answer(here: ConsoleHere, client: TestClient) -> None:
    here.answer = Ack("x", "t", "rejected", "unknown_product", "no such product")
    answer = post(client, here, "operator", example("product"))
    assert answer.json()["result"] == "rejected"
    act = json.loads(here.console.board.document("console/acts"))["doc"][0]
    assert (act["user"], act["act"], act["line"], act["value"]) == ("operator", "product", "line-1", "bottle-500")
    assert (act["result"], act["reason"]) == ("rejected", "unknown_product")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'{"act":"product"}', 400),
        (b'{"act":"product","line":"line-1"}', 400),
        (b'{"act":"product","line":"../x","value":"a","confirmed":true}', 400),
        (b'{"act":"product","line":"line-1","value":{"a":1},"confirmed":true}', 400),
        (b'{"act":"no-such","line":"line-1"}', 400),
        (b'{"act":"cancel","value":"job-7"}', 400),
        (b'{"act":"canary","line":"line-1","value":"{\\"value\\":\\"promote\\"}"}', 400),
        (b'{"act":"canary","line":"line-1","value":" promote"}', 400),
        (b'{"act":"canary","line":"line-1"}', 400),
        (b'{"act":"product","line":"line-1","value":"a","more":1}', 400),
        (b"[" * 50_000, 400),
        (b'{"act":"' + b"x" * 70_000 + b'"}', 413),
    ],
)
def test_broken_requests_do_nothing(here: ConsoleHere, client: TestClient, body: bytes, status: int) -> None:
    headers = {**ORIGIN, **here.cookie("admin"), "content-type": "application/json"}
    assert client.post("/console/api/act", content=body, headers=headers).status_code == status
    assert here.commands == []


def test_a_form_is_no_request(here: ConsoleHere, client: TestClient) -> None:
    body = msgspec.json.encode(example("product"))
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        headers = {**ORIGIN, **here.cookie("admin"), "content-type": kind}
        assert client.post("/console/api/act", content=body, headers=headers).status_code == 415
    assert here.commands == []


def test_login_gives_a_cookie_that_scripts_and_other_sites_cannot_use(client: TestClient) -> None:
    answer = login(client, "operator", PASSWORD)
    assert (answer.status_code, answer.json()["role"]) == (200, "operator")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/console" in cookie
    assert client.get("/console/api/session").json()["user"] == "operator"


def test_the_cookie_is_secure_over_tls(here: ConsoleHere) -> None:
    with here.client() as client:
        answer = client.post(
            f"https://{HOST}/console/api/login", json=given("admin", PASSWORD), headers={"origin": f"https://{HOST}"}
        )
    assert "Secure" in answer.headers["set-cookie"]


def test_logout_ends_the_session_on_the_device_too(client: TestClient) -> None:
    login(client, "viewer", PASSWORD)
    token = client.cookies[COOKIE]
    assert client.post("/console/api/logout", headers=ORIGIN).status_code == 200
    assert client.get("/console/api/session", headers={"cookie": f"{COOKIE}={token}"}).status_code == 401


def test_wrong_logins_are_refused_alike_and_limited(here: ConsoleHere, client: TestClient) -> None:
    tries = [login(client, name, "wrong password") for name in ("admin", "nobody", "admin", "x" * 200, "")]
    assert {(one.status_code, one.text) for one in tries} == {(401, '{"error":"wrong"}')}
    limited = login(client, "admin", PASSWORD)
    assert limited.status_code == 429
    assert int(limited.headers["retry-after"]) >= 1
    assert client.get("/console/api/session", headers=here.cookie("viewer")).status_code == 200, "sessions go on"


def test_every_answer_carries_the_strict_headers(here: ConsoleHere, client: TestClient) -> None:
    for row in here.console.table():
        if row.method == "GET" and not row.path.endswith("/events"):
            headers = client.get(address(row), headers=here.cookie("viewer")).headers
            assert {name: headers.get(name) for name in HEADERS} == HEADERS, row.path
    policy = HEADERS["content-security-policy"]
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "data:" not in policy


def test_pages_load_nothing_from_elsewhere_and_no_inline_script(here: ConsoleHere, client: TestClient) -> None:
    del here
    page = client.get("/console/").text
    assert "http://" not in page
    assert "https://" not in page
    assert "<style" not in page
    assert " style=" not in page
    assert all("src=" in part for part in page.split("<script")[1:])


@pytest.mark.parametrize(
    ("takes", "coding"),
    [
        ("gzip, deflate, br", "gzip"),
        ("br;q=1.0, GZIP;q=0.5", "gzip"),
        ("gzip;q=0", None),
        ("gzip; q=0.000, identity", None),
        ("identity", None),
        ("", None),
        ("gzipped", None),
    ],
)
def test_a_file_comes_as_the_browser_takes_it(
    here: ConsoleHere, client: TestClient, takes: str, coding: str | None
) -> None:
    del here
    answer = client.get("/console/app.js", headers={"accept-encoding": takes})
    assert answer.headers.get("content-encoding") == coding
    assert answer.text.startswith("// ")


def test_a_file_that_a_browser_has_does_not_come_again(client: TestClient) -> None:
    tag = client.get("/console/app.js").headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}'):
        assert client.get("/console/app.js", headers={"if-none-match": known}).status_code == 304
    assert client.get("/console/app.js", headers={"if-none-match": '"other"'}).status_code == 200


def test_the_first_load_is_small(here: ConsoleHere, client: TestClient) -> None:
    del client
    wired = sum(here.console.files.wired_bytes(name) for name in here.console.files.names() if _is_loaded(name))
    assert wired <= 80_000


def _is_loaded(name: str) -> bool:
    """Return True for files of the first load: one language, and no text for readers of the source."""
    return not name.endswith(".md") and name != "lang/de.json"


def example(name: str) -> dict[str, Any]:
    """Return a good request for an act."""
    values: dict[str, Any] = {
        "product": "bottle-500",
        "model": "cap-check:n@3",
        "prepare": "bottle-500",
        "acknowledge": {"code": "camera", "stream": "cam-1"},
        "models": {"rev": 3, "models": []},
        "cancel": {"job": "job-7"},
        "canary": "stop",
    }
    return {"act": name, "line": "line-1", "value": values.get(name), "confirmed": True}


def post(client: TestClient, here: ConsoleHere, role: Role, body: dict[str, Any]) -> Response:
    answer: Response = client.post("/console/api/act", json=body, headers={**ORIGIN, **here.cookie(role)})
    return answer


def given(name: str, password: str) -> dict[str, str]:
    return {"name": name, "password": password}


def login(client: TestClient, name: str, password: str) -> Response:
    answer: Response = client.post("/console/api/login", json=given(name, password), headers=ORIGIN)
    return answer
