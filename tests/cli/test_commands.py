"""Commands answer at once, with the contract's exit codes."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from support.tensor_models import write_affine_model
from support.tiny_models import write_tiny_model

from agent import __version__

Command = Callable[..., CompletedProcess[str]]
COMMANDS = ("run", "demo", "init", "check", "doctor", "support", "forget", "models", "switch", "watch", "bench")


def test_version_and_help(changeover: Command) -> None:
    assert changeover("--version").stdout == f"changeover {__version__}\n"
    text = changeover("--help").stdout
    assert all(command in text for command in COMMANDS)
    for command in COMMANDS:
        answer = changeover(command, "--help")
        assert (answer.returncode, answer.stderr) == (0, "")
        assert "Usage: changeover " in answer.stdout


def test_completion_is_clicks_own(changeover: Command) -> None:
    answer = changeover(_CHANGEOVER_COMPLETE="bash_complete", COMP_WORDS="changeover m", COMP_CWORD="1")
    assert "models" in answer.stdout


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["run", "--bogus"], ["demo", "--seconds", "-1"], ["models", "add", "a@"]]
)
def test_a_mistake_in_usage_is_2(changeover: Command, arguments: list[str]) -> None:
    answer = changeover(*arguments)
    assert answer.returncode == 2
    assert "Error" in answer.stderr


def test_run_shows_every_mistake_on_stderr(changeover: Command, config: Path) -> None:
    config.write_text("[mqtt]\nprotocol = '9'\n[device]\nid = ''\n")
    answer = changeover("run", "--config", str(config))
    assert (answer.returncode, answer.stdout) == (2, "")
    assert len(answer.stderr.splitlines()) == 2


def test_models_are_listed_added_verified_and_removed(changeover: Command, config: Path, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "new.onnx")
    environ = {"CHANGEOVER_CONFIG": str(config)}
    added = changeover("models", "add", "cap-check:s@4", "new.onnx", **environ)
    assert added.returncode == 0, added.stderr
    assert "no agent answers on 127.0.0.1:" in added.stdout.splitlines()[1]
    kept = Path(added.stdout.split("\t")[1])
    listed = changeover("models", "list", **environ).stdout.splitlines()
    assert [line.split("\t")[0] for line in listed] == ["cap-check:n@3", "cap-check:s@4"]
    assert all(line.endswith("\tnot loaded here yet") for line in listed)
    assert changeover("models", "verify", **environ).stdout == "cap-check:n@3\tok\ncap-check:s@4\tok\n"
    kept.write_bytes(b"damaged")
    one = changeover("models", "verify", "cap-check:s", **environ)
    assert one.returncode == 2
    assert one.stdout.startswith("cap-check:s@4\thash_mismatch")
    used = changeover("models", "remove", "cap-check:n@3", **environ)
    assert used.returncode == 2
    assert "in use by the default of line-1" in used.stderr
    assert changeover("models", "remove", "cap-check:s@4", **environ).returncode == 0
    assert not kept.exists()
    assert changeover("models", "remove", "cap-check:n@3", "--force", **environ).returncode == 0
    again = changeover("models", "remove", "cap-check:s@4", **environ)
    assert again.returncode == 2
    assert "models list" in again.stderr
    assert "Traceback" not in again.stderr


def test_models_are_prepared_ahead(changeover: Command, config: Path, tmp_path: Path) -> None:
    pytest.importorskip("agent.inference.backends.openvino")
    environ = {"CHANGEOVER_CONFIG": str(config), "CHANGEOVER_DEVICE__STATE_DIR": str(tmp_path / "state")}
    write_tiny_model(tmp_path / "new.onnx")
    added = changeover("models", "add", "label-check:s@4", "new.onnx", **environ)
    assert added.returncode == 0, added.stderr
    first = changeover("models", "prepare", "label-check", **environ)
    assert (first.returncode, first.stdout.split(":")[1]) == (0, "s@4\tprepared"), first.stderr
    assert "... compiling with openvino" in first.stderr
    again = changeover("models", "prepare", "label-check", **environ)
    assert again.stdout.startswith("label-check:s@4\tpresent")
    Path(added.stdout.split("\t")[1]).write_bytes(b"damaged")
    environ["CHANGEOVER_DEVICE__STATE_DIR"] = str(tmp_path / "other")
    damaged = changeover("models", "prepare", "label-check", **environ)
    assert (damaged.returncode, "has sha256" in damaged.stdout) == (2, True)


def test_preparing_what_is_not_there_is_a_mistake(changeover: Command, config: Path) -> None:
    answer = changeover("models", "prepare", "label-check", CHANGEOVER_CONFIG=str(config))
    assert (answer.returncode, answer.stderr) == (2, "the catalog has no label-check\n")


def test_a_file_that_takes_no_picture_is_added_where_requests_may_use_it(
    changeover: Command, config: Path, tmp_path: Path
) -> None:
    write_affine_model(tmp_path / "affine.onnx")
    environ = {"CHANGEOVER_CONFIG": str(config)}
    refused = changeover("models", "add", "affine:n@1", "affine.onnx", **environ)
    assert (refused.returncode, "takes 2 inputs (x, k), expected one picture" in refused.stderr) == (2, True)
    config.write_text(f'{config.read_text()}\n[web]\nbind = "127.0.0.1:2"\n')
    of_a_line = changeover("models", "add", "cap-check:n@4", "affine.onnx", **environ)
    assert of_a_line.returncode == 2, "a line names cap-check"
    added = changeover("models", "add", "affine:n@1", "affine.onnx", **environ)
    assert added.returncode == 0, added.stderr
    assert "only requests can use it: " in added.stdout
    assert changeover("check", **environ).returncode == 0


def test_the_log_as_json_is_of_plain_letters(changeover: Command, config: Path) -> None:
    folder = config.parent / "state" / "served"
    folder.mkdir(parents=True)
    detail = "\u202eevil \x9b2J \x1b[2J"
    record = {"at": "2026-01-01T00:00:00.000Z", "what": "change", "model": "a:n@2", "detail": detail}
    (folder / "line-1.json").write_text(json.dumps([record]))
    place = {"CHANGEOVER_DEVICE__STATE_DIR": str(folder.parent)}
    answer = changeover("models", "log", "line-1", "--json", "--config", str(config), **place)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.isascii()
    assert json.loads(answer.stdout) == [record]
