"""Clients are let in by a token or a certificate, and as often as they may."""

import hashlib
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent.messages.web.control import WebClient
from agent.processes.slots.request_memory import MOST_HELD_BYTES
from agent.web.gateway.core.catalog import CatalogView
from agent.web.gateway.core.clients import Client, Clients, new_token
from agent.web.gateway.core.counting import Counting
from agent.web.gateway.core.faults import RequestError
from agent.web.gateway.core.service import GatewayService
from agent.web.serving.documents import DocumentStore
from agent.web.serving.tls import normal_subject, subject_of

TOKEN = "t" * 40


def settings(name: str = "mes", **changed: object) -> WebClient:
    values: dict[str, object] = {
        "name": name,
        "token_file": "",
        "subject": "",
        "models": ("*",),
        "requests_per_s": 2.0,
        "max_inflight": 2,
        "group": "default",
    }
    return WebClient(**{**values, **changed})  # type: ignore[arg-type] # as in the table above


def clients(folder: Path, content: str = f"sha256:{hashlib.sha256(TOKEN.encode()).hexdigest()}\n") -> Clients:
    file = folder / "token"
    file.write_text(content)
    by_subject = settings("plc", subject="O=plant, CN=plc")
    return Clients((settings(token_file=str(file)), by_subject))


@pytest.mark.parametrize("content", [f"sha256:{hashlib.sha256(TOKEN.encode()).hexdigest()}", TOKEN, f" {TOKEN}\n"])
def test_a_token_is_known_by_its_hash(tmp_path: Path, content: str) -> None:
    known = clients(tmp_path, content)
    assert known.authenticated(f"Bearer {TOKEN}", "").name == "mes"
    assert known.authenticated(f"bearer {TOKEN}", "").name == "mes"


@pytest.mark.parametrize(
    ("authorization", "subject"),
    [
        ("", ""),
        ("Bearer", ""),
        ("Bearer ", ""),
        (f"Basic {TOKEN}", ""),
        (f"Bearer {TOKEN}x", ""),
        (f"Bearer {TOKEN[:-1]}", ""),
        ("Bearer " + "x" * 5000, ""),
        ("Bearer \udcff", ""),
        ("Bearer wrong", "CN=plc,O=plant"),  # a wrong token is not mended by a certificate
        ("", "CN=plc"),
        ("", "CN=plc,O=plant,OU=more"),
    ],
)
def test_nobody_else_is_let_in(tmp_path: Path, authorization: str, subject: str) -> None:
    with pytest.raises(RequestError) as refused:
        clients(tmp_path).authenticated(authorization, subject)
    assert refused.value.kind == "unauthorized"
    assert TOKEN not in str(refused.value)


def test_a_certificate_is_known_by_its_subject_in_any_order(tmp_path: Path) -> None:
    assert clients(tmp_path).authenticated("", "CN=plc,O=plant").name == "plc"


@pytest.mark.parametrize("text", ["CN = plc, O = plant", "o=plant,commonName=plc", " O=plant ,, CN=plc,"])
def test_a_subject_is_configured_as_tools_print_it(text: str) -> None:
    assert normal_subject(text) == "CN=plc,O=plant"
    assert normal_subject("DC=plant,UID=plc") == subject_of(_certificate(domainComponent="plant", userId="plc"))


def test_a_value_with_a_comma_is_no_other_part() -> None:
    """An authority that leaves the name to the client would else let it be anybody."""
    assert subject_of(_certificate(commonName="plc,O=plant")) not in {
        "CN=plc,O=plant",
        normal_subject("CN=plc,O=plant"),
    }
    for value in ("Plant, Inc.", "back\\slash", "both\\,", " = "):
        text = value.strip().replace("\\", "\\\\").replace(",", "\\,")
        found = subject_of(_certificate(commonName="plc", organizationName=value.strip()))
        assert normal_subject(f"O={text}, CN=plc") == found, text


def _certificate(**names: str) -> dict[str, object]:
    """Return a certificate as `getpeercert` has it."""
    return {"subject": tuple(((key, value),) for key, value in names.items())}


def test_a_proof_is_one_clients_and_the_second_is_told(tmp_path: Path) -> None:
    (tmp_path / "hash").write_text(f"sha256:{hashlib.sha256(TOKEN.encode()).hexdigest()}")
    (tmp_path / "token").write_text(TOKEN)
    by_token = [settings(name, token_file=str(tmp_path / file)) for name, file in (("mes", "hash"), ("scada", "token"))]
    by_subject = [settings("plc", subject="CN=plc,O=plant"), settings("hmi", subject="O=plant, CN=plc")]
    known = Clients((*by_token, *by_subject))
    assert known.authenticated(f"Bearer {TOKEN}", "").name == "mes"
    assert known.authenticated("", "CN=plc,O=plant").name == "plc"
    assert known.faults == [
        "client scada is not let in: its token_file: client mes has the same",
        "client hmi is not let in: its subject: client plc has the same",
    ]


@pytest.mark.parametrize("content", ["", "short", "sha256:12", "sha256:zz"])
def test_a_file_that_holds_no_token_lets_nobody_in_and_is_told(tmp_path: Path, content: str) -> None:
    known = clients(tmp_path, content)
    assert len(known.faults) == 1
    assert "mes" in known.faults[0]
    for token in (content, TOKEN):
        with pytest.raises(RequestError):
            known.authenticated(f"Bearer {token}", "")


def test_a_client_has_its_rate_and_is_told_when_to_come_again() -> None:
    now_s = 100.0
    client = Client(settings(), lambda: now_s)
    for _ in range(2):
        with client.admitted():
            pass
    with pytest.raises(RequestError) as refused, client.admitted():
        pass
    assert (refused.value.kind, refused.value.retry_s) == ("limited", 1.0)
    now_s += 0.5
    with client.admitted():
        pass


def test_a_client_has_so_many_requests_under_way_and_gets_them_back() -> None:
    client = Client(settings(requests_per_s=1000.0))
    with client.admitted(), client.admitted():
        with pytest.raises(RequestError) as refused, client.admitted():
            pass
        assert refused.value.kind == "limited"
    with client.admitted():
        pass


@pytest.mark.parametrize(
    ("patterns", "seen"),
    [
        (("*",), {"cap-check", "seal"}),
        (("cap-*",), {"cap-check"}),
        (("cap-check:n",), {"cap-check"}),
        (("cap-check:x",), set()),
        ((), set()),
    ],
)
def test_models_are_seen_by_pattern(patterns: tuple[str, ...], seen: set[str]) -> None:
    client = Client(settings(models=patterns))
    assert {name for name in ("cap-check", "seal") if client.may_see(name, "n")} == seen


def test_a_client_of_a_group_without_a_worker_is_not_given_another_groups() -> None:
    """`check` refuses such a configuration; until the next start an old one may run."""
    nobody = cast("Any", None)
    service = GatewayService(Clients(()), nobody, nobody, {"other": nobody})
    with pytest.raises(RequestError, match="no worker serves the group default of client mes"):
        service._link(Client(settings()))


def test_a_client_sees_the_state_of_its_own_group() -> None:
    documents = DocumentStore()
    rows = [
        {"model": "cap-check:n@3", "state": "active", "group": "press"},
        {"model": "seal:n@1", "state": "resident", "group": "default"},
    ]
    documents.states["meta"] = json.dumps({"models": [row["model"] for row in rows]}).encode()
    documents.states["cache"] = json.dumps({"models": rows}).encode()
    links = {
        group: cast("Any", SimpleNamespace(is_open=group == "press", changed_s={})) for group in ("default", "press")
    }
    service = GatewayService(Clients(()), CatalogView(documents), cast("Any", None), links)
    mes, press = Client(settings(models=("*",))), Client(settings(name="press", models=("*",), group="press"))
    states = {
        one.group: {row["name"]: row["state"] for row in service.index(one, only_ready=False)} for one in (mes, press)
    }
    assert states == {
        "default": {"cap-check:n": "UNAVAILABLE", "seal:n": "READY"},
        "press": {"cap-check:n": "READY", "seal:n": "UNAVAILABLE"},
    }
    assert (service.is_ready(mes), service.is_ready(press)) == (False, True)


def test_a_name_is_its_nano_else_the_smallest() -> None:
    documents = DocumentStore()
    models = ["cap:n-int8@9", "seal:s-int8@1", "cap:n@1", "cap:n@10", "cap:n@9", "seal:s@1", "lid:low@1", "lid:high@1"]
    documents.states["meta"] = json.dumps({"models": models}).encode()
    view, client = CatalogView(documents), Client(settings(models=("*",)))
    found = {name: view.resolve(client, name, "").reference for name in ("cap", "cap:n-int8", "seal", "lid")}
    assert found == {"cap": "cap:n@10", "cap:n-int8": "cap:n-int8@9", "seal": "seal:s-int8@1", "lid": "lid:low@1"}
    assert view.resolve(client, "cap", "9").reference == "cap:n@9"
    assert [one.reference for one in view.seen_by(client) if one.path == "cap:n"] == ["cap:n@10", "cap:n@9", "cap:n@1"]


def test_bodies_of_one_group_leave_the_room_of_another() -> None:
    subjects = {name: settings(name, subject=f"CN={name}", group=name) for name in ("mes", "press")}
    counting = Counting(cast("Any", None))
    service = GatewayService(Clients(tuple(subjects.values())), cast("Any", None), counting, {})
    with service.request("", "CN=mes") as mes, service.request("", "CN=press") as press:
        mes.held.resize(MOST_HELD_BYTES)
        with service.request("", "CN=mes") as another, pytest.raises(RequestError, match="requests of mes hold"):
            another.held.resize(1)
        press.held.resize(MOST_HELD_BYTES)


def test_the_service_may_read_a_token_that_is_made_under_a_closed_umask(tmp_path: Path) -> None:
    file = tmp_path / "clients" / "plant" / "mes.token"
    before = os.umask(0o077)
    try:
        new_token(file)
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (file, file.parent, file.parent.parent)] == [0o644, 0o755, 0o755]
