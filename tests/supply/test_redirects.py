"""Redirects and credentials: a secret is sent to its own host alone."""

from pathlib import Path

import pytest
from support.fetches import Fetches, content_of, entry
from support.file_server import FileServer, Served, file_server

from agent.messages.errors import ModelError
from agent.messages.short_lived.supply import SupplyHost
from agent.supply.errors import SourceError
from agent.supply.sources import web

CONTENT = content_of(50_000)


@pytest.fixture
def token(tmp_path: Path) -> str:
    path = tmp_path / "token"
    path.write_text("s3cret\n")
    return str(path)


def test_a_token_goes_to_its_host(server: FileServer, tmp_path: Path, token: str) -> None:
    fetches = Fetches(tmp_path, SupplyHost("plant", token_file=token, endpoint=server.url("")))
    server.files["/cap.onnx"] = Served(CONTENT, user="Bearer s3cret")
    fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    fetches.require_only(CONTENT)


def test_a_token_of_a_host_is_not_sent_in_the_clear(server: FileServer, tmp_path: Path, token: str) -> None:
    fetches = Fetches(tmp_path, SupplyHost(server.netloc, token_file=token))
    server.files["/cap.onnx"] = Served(CONTENT)
    fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    assert "authorization" not in server.requests[0][1]


def test_user_and_password_go_to_their_host(server: FileServer, tmp_path: Path, token: str) -> None:
    fetches = Fetches(
        tmp_path, SupplyHost("plant", access_key_file=token, secret_key_file=token, endpoint=server.url(""))
    )
    server.files["/cap.onnx"] = Served(CONTENT, user="Basic czNjcmV0OnMzY3JldA==")
    fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    fetches.require_only(CONTENT)


def test_a_redirect_to_another_host_loses_them(server: FileServer, tmp_path: Path, token: str) -> None:
    with file_server() as other:
        fetches = Fetches(tmp_path, SupplyHost("plant", token_file=token, endpoint=server.url("")))
        server.files["/cap.onnx"] = Served(status=302, location=other.url("/cap.onnx"), user="Bearer s3cret")
        other.files["/cap.onnx"] = Served(CONTENT)
        fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
        fetches.require_only(CONTENT)
        assert [headers.get("authorization") for _, headers in other.requests] == [None]


def test_they_stay_lost_on_the_way_back(server: FileServer, tmp_path: Path, token: str) -> None:
    with file_server() as other:
        fetches = Fetches(tmp_path, SupplyHost("plant", token_file=token, endpoint=server.url("")))
        server.files["/cap.onnx"] = Served(status=302, location=other.url("/back"))
        other.files["/back"] = Served(status=302, location=server.url("/other-mans"))
        server.files["/other-mans"] = Served(CONTENT)
        fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
        assert "authorization" not in server.requests[-1][1]


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://127.0.0.1/cap.onnx", "http://u:p@127.0.0.1/x", "http://["]
)
def test_a_redirect_elsewhere_is_refused(server: FileServer, fetches: Fetches, location: str) -> None:
    server.files["/cap.onnx"] = Served(status=302, location=location)
    with pytest.raises(ModelError) as refused:
        fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    assert refused.value.reason == "source_refused"
    assert "u:p" not in str(refused.value)


def test_redirects_in_a_ring_end(server: FileServer, fetches: Fetches) -> None:
    server.files["/cap.onnx"] = Served(status=307, location="/cap.onnx")
    with pytest.raises(ModelError, match="redirects"):
        fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))


@pytest.mark.parametrize("text", ["", "two\nlines", "\x00"])
def test_a_credential_that_is_none_is_told_without_it(
    server: FileServer, tmp_path: Path, token: str, text: str
) -> None:
    Path(token).write_text(text)
    fetches = Fetches(tmp_path, SupplyHost("plant", token_file=token, endpoint=server.url("")))
    with pytest.raises(ModelError, match=r"credential .*token: expected one line"):
        fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))


def test_no_secret_is_in_what_a_failure_says(server: FileServer, tmp_path: Path, token: str) -> None:
    fetches = Fetches(tmp_path, SupplyHost("plant", token_file=token, endpoint=server.url("")))
    server.files["/cap.onnx"] = Served(CONTENT, status=500)
    with pytest.raises(SourceError) as refused:
        fetches.fetch(entry(server.url("/cap.onnx?sig=s3cret"), CONTENT))
    assert "s3cret" not in str(refused.value)
    assert not any(b"s3cret" in path.read_bytes() for path in fetches.store_dir.rglob("*") if path.is_file())


def test_https_is_never_left() -> None:
    with pytest.raises(ModelError, match="expected one to https"):
        web.require_redirect("https://host/cap.onnx", "http://host/cap.onnx")
