"""The commands of an index, of signatures and of sticks, as their users type them."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.tiny_models import write_tiny_model

from agent.app.configuration.check import check
from agent.cli import _commands
from agent.doctor.models import try_models
from agent.messages.errors import MistakeError, ModelError
from agent.models.catalog import Catalog
from agent.settings import load

SETTINGS = """version = 1
[device]
id = "box-7"
state_dir = "{folder}/state"
[catalog]
file = "{folder}/models.toml"
store_dir = "{folder}/store"
min_free = "0"
{trust}
"""


def typed(*words: object) -> str:
    """Run a command; return what it says. Raises what it raises."""
    result: Result = CliRunner().invoke(_commands, [str(word) for word in words], catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def box(folder: Path, trust: str = "") -> Path:
    """Write a device's configuration; return its file."""
    folder.mkdir()
    (folder / "models.toml").touch()
    config = folder / "changeover.toml"
    config.write_text(SETTINGS.format(folder=folder, trust=trust))
    return config


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "cap.onnx", names=("cap",))


def test_a_plants_index_from_its_first_key_to_a_box(tmp_path: Path, model: Path) -> None:
    index, keys = tmp_path / "index", ("--keys", tmp_path / "keys")
    told = ("--confidence", "0.5", "--preprocess", '{"resize": "stretch", "scale": 0.5}')
    assert "every device needs it once" in typed("index", "init", index, *keys)
    assert "added cap:n@1" in typed("index", "add", index, "cap:n@1", model, *keys, *told)
    assert "should be renewed" in typed("index", "publish", index, *keys)
    config = box(tmp_path / "box", f'root = "{index}/root.json"')
    assert "imported" in typed("models", "import", index, "--config", config)
    [version] = Catalog.load(tmp_path / "box" / "models.toml").versions
    assert (version.confidence, version.preprocess.resize, version.preprocess.scale) == (0.5, "stretch", 0.5)
    assert "\ttrusted" in typed("models", "list", "--config", config)
    assert "cap:n@1\tok" in typed("models", "verify", "--config", config)
    typed("index", "revoke", index, "cap@1", *keys)
    typed("index", "rotate", index, "models", *keys)
    typed("index", "publish", index, *keys)
    assert "never loaded again" in typed("models", "import", index, "--config", config)
    assert "NOT TRUSTED, revoked" in typed("models", "list", "--config", config)
    with pytest.raises(AssertionError, match="revoked: "):
        typed("models", "verify", "--config", config)
    with pytest.raises(ModelError, match="revoked"):
        typed("models", "prepare", "cap", "--config", config)


@pytest.mark.parametrize(("said", "classes"), [(" , ", ()), ("lid,", ("lid",))])
def test_classes_come_to_a_box_as_they_are_named(
    tmp_path: Path, model: Path, said: str, classes: tuple[str, ...]
) -> None:
    index, keys = tmp_path / "index", ("--keys", tmp_path / "keys")
    typed("index", "init", index, *keys)
    typed("index", "add", index, "cap:n@1", model, *keys, "--classes", said)
    typed("index", "publish", index, *keys)
    config = box(tmp_path / "box", f'root = "{index}/root.json"')
    typed("models", "import", index, "--config", config)
    (version,) = Catalog.load(tmp_path / "box" / "models.toml").versions
    assert version.classes == classes


def test_signed_models_go_from_box_to_box(tmp_path: Path, model: Path) -> None:
    typed("index", "key", "plant", "--keys", tmp_path / "keys")
    typed("models", "sign", model, "--key", tmp_path / "keys/plant.key", "--model", "cap:n@1")
    trust = f'trusted_keys = ["{tmp_path}/keys/plant.pub"]'
    one, other = box(tmp_path / "one", trust), box(tmp_path / "other", trust)
    typed("models", "add", "cap:n@1", model, "--config", one)
    assert "\ttrusted" in typed("models", "list", "--config", one)
    assert "bundled cap:n@1" in typed("models", "bundle", tmp_path / "stick", "cap", "--config", one)
    assert "imported" in typed("models", "import", tmp_path / "stick", "--only-signed", "--config", other)


def test_an_unsigned_model_is_told(tmp_path: Path, model: Path) -> None:
    typed("index", "key", "plant", "--keys", tmp_path / "keys")
    config = box(tmp_path / "box", f'trusted_keys = ["{tmp_path}/keys/plant.pub"]')
    typed("models", "add", "cap:n@1", model, "--config", config)
    assert "NOT TRUSTED, unsigned" in typed("models", "list", "--config", config)
    assert "model cap:n@1 is never loaded, unsigned" in "\n".join(check(config, {}).notes)
    stream = f'[[stream]]\nid = "cam-1"\nline = "line-1"\nsource = "{tmp_path}"\n'
    config.write_text(f'{config.read_text()}\n[line.line-1]\ndefault = "cap"\n{stream}')
    findings = list(try_models(load(config, {})))
    assert [one for one in findings if "is never loaded, unsigned" in one.text], findings
    with pytest.raises(AssertionError, match="unsigned"):
        typed("models", "verify", "--config", config)


def test_a_box_that_trusts_anybody_imports_by_hand_only(tmp_path: Path, model: Path) -> None:
    one, other = box(tmp_path / "one"), box(tmp_path / "other")
    typed("models", "add", "cap:n@1", model, "--config", one)
    assert "no signature" in typed("models", "bundle", tmp_path / "stick", "cap", "--config", one)
    with pytest.raises(MistakeError, match="trusted_keys"):
        typed("models", "import", tmp_path / "stick", "--only-signed", "--config", other)
    assert "imported" in typed("models", "import", tmp_path / "stick", "--config", other)


@pytest.mark.parametrize("text", ["{", "[]", '{"resize": "crop"}', '{"zoom": 2}'])
def test_a_preprocess_that_is_none_is_refused(tmp_path: Path, model: Path, text: str) -> None:
    index, keys = tmp_path / "index", ("--keys", tmp_path / "keys")
    typed("index", "init", index, *keys)
    with pytest.raises(MistakeError, match="preprocess"):
        typed("index", "add", index, "cap:n@1", model, *keys, "--preprocess", text)


def test_keys_inside_the_index_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MistakeError, match="served to everybody"):
        typed("index", "init", tmp_path / "index", "--keys", tmp_path / "index" / "keys")


def test_an_encrypted_key_signs_with_its_password(tmp_path: Path, model: Path) -> None:
    password = tmp_path / "password"
    password.write_text("caps and hats\n")
    typed("index", "key", "plant", "--keys", tmp_path / "keys", "--password-file", password)
    key = ("--key", tmp_path / "keys/plant.key")
    with pytest.raises(MistakeError, match="password"):
        typed("models", "sign", model, *key)
    assert "wrote" in typed("models", "sign", model, *key, "--password-file", password)
