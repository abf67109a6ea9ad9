"""`changeover web user`: the only way to a first user, whose password is never an argument."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent.cli.web import web
from agent.messages.errors import MistakeError
from agent.web.console.access.users import Users


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
