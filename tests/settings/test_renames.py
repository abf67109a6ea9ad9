"""A renamed key is understood and told, wherever it stands; a version of the future is told alone."""

import logging
from pathlib import Path
from typing import Any

import pytest

from agent.settings import SettingsError, draft, load
from agent.settings.model import Settings
from agent.settings.renames import ANY, OF_CATALOG, OF_CONFIGURATION, Rename, to, understood
from agent.settings.tables.base import Group

RENAMES = (
    Rename(("mqtt",), "broker", to("url")),
    Rename(("stream", ANY), "name", to("id")),
    Rename(("line", ANY), "model", to("default")),
    Rename((), "camera", to("stream")),
)
OLD = """
[mqtt]
broker = "mqtt://10.0.0.2"
[[stream]]
name = "cam-1"
line = "line-1"
source = "a.avi"
[[stream]]
id = "cam-2"
line = "line-1"
source = "b.avi"
[line.line-1]
model = "cap-check"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "changeover.toml"
    path.write_text(OLD)
    return path


def test_old_names_are_understood_in_every_kind_of_table(file: Path) -> None:
    read = draft(file, {}, RENAMES)
    assert read.mistakes == ()
    assert read.settings is not None
    assert read.settings.mqtt.url == "mqtt://10.0.0.2"
    assert [stream.id for stream in read.settings.stream] == ["cam-1", "cam-2"]
    assert [str(one) for one in read.renamed] == [
        "mqtt.broker is named mqtt.url now",
        "stream[0].name is named stream[0].id now",
        "line.line-1.model is named line.line-1.default now",
    ]


def test_old_names_in_the_environment_are_understood_and_told(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    read = draft(file, {"CHANGEOVER_MQTT__BROKER": "mqtt://10.0.0.9"}, RENAMES)
    assert read.settings is not None
    assert read.settings.mqtt.url == "mqtt://10.0.0.9"
    assert "key=CHANGEOVER_MQTT__BROKER now=CHANGEOVER_MQTT__URL" in caplog.text


def test_a_key_under_both_names_is_a_mistake(file: Path) -> None:
    file.write_text(OLD.replace("[mqtt]\n", '[mqtt]\nurl = "mqtt://10.0.0.3"\n'))
    (mistake, *_) = draft(file, {}, RENAMES).mistakes
    assert (mistake.key, mistake.expected) == ("mqtt.broker", "mqtt.url alone: remove broker")


def test_no_old_name_is_a_key_of_today() -> None:
    for rename in OF_CONFIGURATION:
        group: Any = Settings
        for part in rename.table:
            group = group if part == ANY else group.model_fields[part].annotation
        assert not (isinstance(group, type) and issubclass(group, Group)) or rename.old not in group.model_fields


def test_the_sha256_of_weights_lies_among_the_files_now() -> None:
    row = {"file": "models/cap.xml", "weights_sha256": "00", "files": {"metadata.yaml": "11"}}
    raw, renamed, doubled = understood({"model": [{"file": "a.onnx"}, row]}, OF_CATALOG)
    assert raw["model"][1] == {"file": "models/cap.xml", "files": {"metadata.yaml": "11", "cap.bin": "00"}}
    assert "weights_sha256" in row, "what was read stays as it was"
    assert [str(one) for one in renamed] == ['model[1].weights_sha256 is named model[1].files."cap.bin" now']
    assert doubled == []


@pytest.mark.parametrize("row", [{"weights_sha256": "00"}, {"file": 3, "weights_sha256": "00"}])
def test_what_cannot_be_renamed_is_left_as_a_mistake(row: dict[str, Any]) -> None:
    assert understood({"model": [row]}, OF_CATALOG) == ({"model": [row]}, [], [])


@pytest.mark.parametrize("raw", [{"model": 3}, {"model": {"a": {"weights_sha256": 1}}}, {"model": [3]}, {}])
def test_any_shape_of_a_file_is_read(raw: dict[str, Any]) -> None:
    understood(raw, OF_CATALOG)


def test_a_version_of_the_future_is_told_alone(file: Path) -> None:
    file.write_text("version = 2\nnovelty = 1\n[mqtt]\nqos = 3\n")
    with pytest.raises(SettingsError) as caught:
        load(file, {})
    (mistake,) = caught.value.mistakes
    assert (mistake.key, mistake.found) == ("version", "2")
    assert "newer Changeover" in mistake.expected


@pytest.mark.parametrize("version", ['"1"', "0", "1.5"])
def test_no_other_version_is_taken(version: str, file: Path) -> None:
    file.write_text(
        f"version = {version}\n{OLD.replace('broker', 'url').replace('name', 'id').replace('model', 'default')}"
    )
    with pytest.raises(SettingsError, match="version: found"):
        load(file, {})


def test_who_loads_old_names_is_told_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from agent.models.catalog import Catalog  # noqa: PLC0415 - the one other file with keys

    sha256 = "0" * 64
    text = f'[[model]]\nname = "a"\nvariant = "n"\nversion = "1"\nfile = "a.xml"\nsha256 = "{sha256}"\n'
    (tmp_path / "models.toml").write_text(f'{text}weights_sha256 = "{sha256}"\n')
    with caplog.at_level(logging.WARNING):
        (version,) = Catalog.load(tmp_path / "models.toml").versions
    assert [(file.name, file.sha256) for file in version.files] == [("a.bin", sha256)]
    assert "event=key_renamed" in caplog.text
    assert "`changeover check --fix`" in caplog.text
