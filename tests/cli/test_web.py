"""`changeover web`: the only way to a first user, whose password is never an argument, and tokens of clients."""

import hashlib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent.cli.web import web
from agent.messages.errors import MistakeError
from agent.messages.web.control import WebClient
from agent.web.console.access.users import Users
from agent.web.gateway.core.clients import Clients
from agent.web.gateway.core.faults import RequestError


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "changeover.toml"
    path.write_text(f'[device]\nid = "box"\nstate_dir = "{tmp_path}/state"\n')
    return path


def run(config: Path, *words: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(web, ["user", *words, "--config", str(config)], input=typed, catch_exceptions=False)


def test_users_are_added_listed_and_removed(config: Path, tmp_path: Path) -> None:
    assert "anna is operator" in run(config, "add", "anna", "--role", "operator", typed="a long password\n").output
    assert Users(tmp_path / "state").check("anna", "a long password") is not None
    assert "have ended" in run(config, "add", "anna", "--role", "viewer", typed="another password\n").output
    assert run(config, "list").output == "anna  viewer\n"
    run(config, "remove", "anna")
    assert run(config, "list").output == ""
    with pytest.raises(MistakeError, match="no user"):
        run(config, "remove", "anna")


def test_a_short_password_and_an_unknown_role_are_refused(config: Path) -> None:
    with pytest.raises(MistakeError, match="10 characters"):
        run(config, "add", "anna", "--role", "admin", typed="short\n")
    assert run(config, "add", "anna", "--role", "king", typed="a long password\n").exit_code != 0
    assert run(config, "list").output == ""


def test_a_password_that_does_not_come_or_is_no_text_is_a_mistake(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["user", "add", "anna", "--role", "admin", "--config", str(config)]
    with pytest.raises(MistakeError, match="UTF-8"):
        CliRunner().invoke(web, words, input=b"\xff\xfe a long password\n", catch_exceptions=False)
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(MistakeError, match="standard input"):
        web.main(words, standalone_mode=False)
    assert run(config, "list").output == ""


def token(config: Path, client: str) -> Result:
    return CliRunner().invoke(web, ["token", client, "--config", str(config)], catch_exceptions=False)


def test_a_token_is_printed_once_and_its_hash_is_kept(config: Path, tmp_path: Path) -> None:
    clients = '[[web.client]]\nname = "mes"\ntoken_file = "keys/mes.token"\n'
    config.write_text(f'{config.read_text()}\n[web]\nbind = "127.0.0.1:1"\n{clients}')
    made = [token(config, "mes").stdout.strip() for _ in range(2)]
    kept = tmp_path / "keys" / "mes.token"
    assert len(set(made)) == 2
    assert kept.read_text() == f"sha256:{hashlib.sha256(made[1].encode()).hexdigest()}\n"
    known = Clients((WebClient("mes", str(kept), "", ("*",), 1.0, 1, "default"),))
    assert known.authenticated(f"Bearer {made[1]}", "").name == "mes"
    with pytest.raises(RequestError):
        known.authenticated(f"Bearer {made[0]}", "")
    with pytest.raises(MistakeError, match="with a token_file"):
        token(config, "nobody")
