"""`changeover check`: every mistake in one run, one line each, and 2 as its answer."""

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import msgspec
import onnx
import pytest
from support.tiny_models import write_tiny_model

from agent.app.configuration.check import check
from agent.files import file_sha256
from agent.trust.index_state import FOLDER, STATE_FILE, IndexState

Command = Callable[..., CompletedProcess[str]]


def test_a_good_configuration_is_summed_up(changeover: Command, config: Path) -> None:
    answer = changeover("check", "--config", str(config))
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.startswith("ok: 1 line, 1 stream, 1 product, 1 model ")


def test_the_age_of_the_index_is_told(changeover: Command, config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "state" / FOLDER
    folder.mkdir(parents=True)
    now = dt.datetime.now(dt.timezone.utc)
    kept = IndexState((now - dt.timedelta(days=3)).isoformat(), (now + dt.timedelta(days=9)).isoformat())
    (folder / STATE_FILE).write_bytes(msgspec.json.encode(kept))
    (tmp_path / "root.json").write_text("{}")
    text = config.read_text().replace("[catalog]", "[catalog]\nroot = 'root.json'")
    config.write_text(f"[device]\nstate_dir = '{tmp_path}/state'\n{text}")
    assert "note: index: 3 days old\n" in changeover("check", "--config", str(config)).stdout


def test_kept_pictures_are_noted(config: Path) -> None:
    config.write_text(config.read_text() + "[canary]\nkeep_bytes = '8MiB'\n")
    assert any("keep pictures of the lines" in note for note in check(config, {}).notes)


def test_mistakes_of_all_files_come_in_one_run(changeover: Command, config: Path) -> None:
    config.write_text(config.read_text().replace("cap-check:n@3", "cap-check:m") + "[mqtt]\nprotocol = '9'\n")
    catalog = config.with_name("models.toml")
    catalog.write_text(catalog.read_text() + 'golden = "pictures"\n')
    config.with_name("cap.onnx").write_bytes(b"another model")
    answer = changeover("check", CHANGEOVER_CONFIG=str(config), CHANGEOVER_HTTP__BIND="x")
    assert answer.returncode == 2
    starts = [line.split(": found ")[0] for line in answer.stdout.splitlines()]
    assert sorted(starts) == sorted(
        [
            f"{config}: mqtt.protocol",
            "environment: CHANGEOVER_HTTP__BIND",
            f"{config}: line.line-1.products.17",
            f"{catalog}: model[0].sha256",
            f"{catalog}: model[0].golden",
        ]
    )
    assert "expected one of cap-check:n@3" in answer.stdout


def test_a_broken_catalog_is_reported_beside_the_configuration(config: Path) -> None:
    config.write_text(config.read_text() + "[mqtt]\nprotocol = '9'\n")
    catalog = config.with_name("models.toml")
    catalog.write_text("[[model]]\nname =\n")
    where = [(mistake.file, mistake.key) for mistake in check(config, {}).mistakes]
    assert where == [(str(config), "mqtt.protocol"), (f"{catalog}:2:7", "")]


def test_missing_files_are_named_by_their_keys(config: Path) -> None:
    config.with_name("cap.onnx").unlink()
    config.write_text(config.read_text() + "[mqtt]\nusername = 'u'\npassword_file = 'hunter2'\n")
    mistakes = check(config, {}).mistakes
    assert [mistake.key for mistake in mistakes] == ["mqtt.password_file", "model[0].file"]
    assert "hunter2" not in "\n".join(map(str, mistakes))
    config.with_name("models.toml").unlink()
    assert "catalog.file" in [mistake.key for mistake in check(config, {}).mistakes]


def test_an_authority_that_cannot_be_read_is_named_by_its_key(config: Path) -> None:
    changed = config.read_text().replace("[[stream]]\n", '[[stream]]\nca_file = "nowhere.pem"\n')
    config.write_text(changed)
    assert [mistake.key for mistake in check(config, {}).mistakes] == ["stream[0].ca_file"]


def test_a_variant_without_a_place_among_the_others_is_a_mistake(config: Path) -> None:
    rules = [
        '[[schedule]]\nline = "line-1"\nfrom = "22:00"\nto = "06:00"\nvariant = "night"\n',
        '[[bandwidth]]\nline = "line-1"\nbelow_kbps = 500\nmax_variant = "small"\n',
        '[[bandwidth]]\nline = "line-1"\nbelow_kbps = 300\nmax_variant = "n-int8"\n',
    ]
    config.write_text(config.read_text().replace('default = "cap', 'variant = "mm"\ndefault = "cap') + "".join(rules))
    mistakes = check(config, {}).mistakes
    wanted = ["line.line-1.variant", "schedule[0].variant", "bandwidth[0].max_variant"]
    assert [mistake.key for mistake in mistakes] == wanted
    assert mistakes[0].found == '"mm"'
    assert mistakes[0].expected.startswith("n, s, m, l, x,")
    catalog = config.with_name("models.toml")
    catalog.write_text(catalog.read_text().replace('variant = "n"', 'variant = "mm"\nrank = 7'))
    config.write_text(config.read_text().replace("cap-check:n@3", "cap-check"))
    assert [mistake.key for mistake in check(config, {}).mistakes] == wanted[1:]


def test_keys_beside_the_root_of_an_index_are_a_mistake(config: Path) -> None:
    trust = f"[catalog]\ntrusted_keys = ['{'ab' * 32}']\nroot = 'models.toml'"
    config.write_text(config.read_text().replace("[catalog]", trust))
    (mistake,) = check(config, {}).mistakes
    assert mistake.key == "catalog.trusted_keys"


@pytest.mark.parametrize("arguments", [["check", "--config", "none.toml"], ["run", "--config", "none.toml"], ["check"]])
def test_no_configuration_is_a_mistake(changeover: Command, arguments: list[str]) -> None:
    answer = changeover(*arguments, CHANGEOVER_CONFIG="none-either.toml")
    assert answer.returncode == 2
    assert "no such file" in answer.stdout + answer.stderr
    assert "Traceback" not in answer.stderr


def write_entry(config: Path, file: str, *lines: str, sha256: str = "0" * 64) -> None:
    row = ["[[model]]", 'name = "cap-check"', 'variant = "n"', 'version = "3"', f'file = "{file}"']
    config.with_name("models.toml").write_text("\n".join([*row, f'sha256 = "{sha256}"', *lines]) + "\n")


def faults(config: Path) -> list[tuple[str, str]]:
    """Return key, and found with expected, of each mistake, as they are with the files of this test's folder."""
    words = [(one.key, f"{one.found} / {one.expected}") for one in check(config, {}).mistakes]
    return [(key, text.replace(f"{config.parent}/", "")) for key, text in words]


def test_a_hand_written_entry_is_told_what_is_wrong_and_what_to_do(config: Path) -> None:
    folder, add = config.parent, "`changeover models add cap-check:n@3"
    write_entry(config, "no.onnx")
    key, text = faults(config)[0]
    assert (key, text) == (
        "model[0].file",
        f"no file no.onnx / the file of cap-check:n@3: put it back, or remove the entry and {add} FILE`",
    )
    (folder / "exported.onnx").mkdir()
    write_entry(config, "exported.onnx")
    assert faults(config) == [
        ("model[0].file", f"a folder exported.onnx / a file ({add} FOLDER` takes an OpenVINO export)")
    ]
    os.mkfifo(folder / "pipe.onnx")
    write_entry(config, "pipe.onnx")
    assert faults(config)[0][1].startswith("pipe.onnx: is no regular file / ")
    write_entry(config, "a\\u0000b.onnx")
    assert faults(config)[0][0] == "model[0].file"
    write_entry(config, "cap.onnx")
    key, text = faults(config)[0]
    assert (key, "cap.onnx has sha256" in text, "copy the file again" in text) == ("model[0].sha256", True, True)


def test_an_entry_without_a_further_file_is_told_which(config: Path) -> None:
    folder = config.parent / "ext"
    folder.mkdir()
    path = write_tiny_model(folder / "cap.onnx")
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="cap.data", size_threshold=0)
    write_entry(config, "ext/cap.onnx", sha256=file_sha256(path))
    key, text = faults(config)[0]
    assert (key, "no sha256 of cap.data" in text) == ('model[0].files."cap.data"', True)
    data = file_sha256(folder / "cap.data")
    (folder / "cap.data").unlink()
    write_entry(config, "ext/cap.onnx", f'files = {{ "cap.data" = "{data}" }}', sha256=file_sha256(path))
    key, text = faults(config)[0]
    assert (key, "no file ext/cap.data" in text) == ('model[0].files."cap.data"', True)
    write_entry(config, "ext/cap.onnx", f'files = {{ "../cap.data" = "{data}" }}', sha256=file_sha256(path))
    assert faults(config)[0] == (
        'model[0].files."../cap.data"',
        '"../cap.data" / the name of a file beside `file`',
    )


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"\x00no model", "is no ONNX file"),
        (b"this is not the model that you look for\n", "is a text, not a model"),
    ],
)
def test_a_file_that_is_no_model_is_a_mistake(config: Path, content: bytes, word: str) -> None:
    path = config.with_name("odd.onnx")
    path.write_bytes(content)
    write_entry(config, path.name, sha256=file_sha256(path))
    assert [(key, word in text) for key, text in faults(config)] == [("model[0].file", True)]


@pytest.mark.parametrize(
    ("line", "key", "word"),
    [
        ('layout = "detr"', "layout", 'it could be "v8"'),
        ('layout = "rtdetr"', "layout", 'it could be "v8"'),
        ('classes = ["cap"]', "file", "the catalog names 1 classes, the file 2"),
        ("imgsz = 320", "file", "the file takes 64 x 64"),
    ],
)
def test_what_a_load_would_refuse_for_its_output_is_a_mistake(config: Path, line: str, key: str, word: str) -> None:
    path = config.with_name("cap.onnx")
    write_entry(config, path.name, line, sha256=file_sha256(path))
    assert [(found, word in text) for found, text in faults(config)] == [(f"model[0].{key}", True)]
    write_entry(config, path.name, 'layout = "v11"', sha256=file_sha256(path))
    assert faults(config) == []
