"""`changeover check --fix`: new names in place, everything else as it was, and the old file kept."""

import os
import re
from pathlib import Path

import pytest

from agent.app.configuration import mend as module
from agent.app.configuration.check import check
from agent.app.configuration.mend import mend, mend_file
from agent.messages.errors import MistakeError
from agent.models.catalog import Catalog
from agent.settings.renames import ANY, OF_CATALOG, Rename, to

SHA = "0" * 64
RENAMES = (
    Rename(("mqtt",), "broker", to("url")),
    Rename(("stream", ANY), "name", to("id")),
    Rename(("line", ANY), "model", to("default")),
)
OLD = """\
# our plant

[mqtt]   # the broker, name = and broker = in words
  broker   = "mqtt://10.0.0.2"   # by cable
# between
keepalive_s = 10
[[stream]]
name = "cam-1" # left
[line."line 1"] # first
model = 'cap'  # both
[[stream]]
name = '''cam-2'''
[line.two]
model = "cap"
"""
NEW = OLD.replace("  broker ", "  url ").replace("\nname =", "\nid =").replace("model =", "default =")


def lines(file: Path, *, with_version: bool = False) -> list[str]:
    return list(mend_file(file, RENAMES, with_version=with_version))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "changeover.toml"
    path.write_text(OLD)
    return path


def test_only_names_change_and_what_was_is_kept(file: Path) -> None:
    file.chmod(0o640)
    told = lines(file)
    assert file.read_text() == NEW
    kept = file.with_name("changeover.toml.bak")
    assert kept.read_text() == OLD
    assert [path.stat().st_mode & 0o777 for path in (file, kept)] == [0o640, 0o640]
    assert told[0] == f"mended {file}: mqtt.broker is named mqtt.url now"
    assert '  + id = "cam-1" # left' in told
    assert told[-1] == f"what it was is kept as {kept}"
    assert lines(file) == [], "there is nothing left to mend"
    assert sorted(path.name for path in file.parent.iterdir()) == ["changeover.toml", "changeover.toml.bak"]


def test_no_copy_of_before_is_overwritten(file: Path) -> None:
    file.with_name("changeover.toml.bak").write_text("mine")
    assert lines(file)[-1].endswith(".bak-2")
    assert file.with_name("changeover.toml.bak").read_text() == "mine"


def test_line_ends_and_a_byte_order_mark_stay(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + OLD.replace("\n", "\r\n").encode())
    lines(file)
    assert file.read_bytes() == b"\xef\xbb\xbf" + NEW.replace("\n", "\r\n").encode()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_stays(file: Path) -> None:
    os.chown(file, 65534, 65533)
    lines(file)
    for path in (file, file.with_name("changeover.toml.bak")):
        assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65533)


def test_a_link_stays_one(file: Path) -> None:
    there = file.with_name("there.toml")
    file.rename(there)
    file.symlink_to(there)
    lines(file)
    assert file.is_symlink()
    assert there.read_text() == NEW


def test_secrets_are_not_shown(file: Path) -> None:
    renames = (Rename(("stream", ANY), "url", to("source")),)
    file.write_text('[[stream]]\nurl = "rtsp://admin:hunter2@10.0.0.5/s"\n')
    told = list(mend_file(file, renames, with_version=False))
    assert "hunter2" not in "\n".join(told)
    assert "hunter2" in file.read_text()


def test_what_cannot_be_mended_in_place_is_left_and_told(file: Path) -> None:
    text = f'[[model]]\nfile = "a.xml"\nweights_sha256 = "{SHA}"\nfiles = {{ "metadata.yaml" = "{SHA}" }}\n'
    file.write_text(text)
    with pytest.raises(MistakeError, match=r"rename model\[0\]\.weights_sha256 to .* by hand: .*; nothing was changed"):
        list(mend_file(file, OF_CATALOG, with_version=False))
    assert file.read_text() == text
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_file_that_cannot_be_replaced_stays(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_write_new", full)
    with pytest.raises(MistakeError, match="No space left"):
        lines(file)
    assert file.read_text() == OLD
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_the_version_is_put_before_everything_but_the_first_comment(file: Path) -> None:
    lines(file, with_version=True)
    assert re.match(r"# our plant\n\nversion = 1 +# of this file's keys\n\n\[mqtt\]", file.read_text())
    before = file.read_text()
    assert lines(file, with_version=True) == []
    assert file.read_text() == before


def test_configuration_and_catalog_are_mended_and_then_right(config: Path) -> None:
    catalog = config.with_name("models.toml")
    catalog.write_text(catalog.read_text() + f'\n[[model]] # old\nname = "b"\nvariant = "n"\nversion = "1"\n'
                       f'file = "b.xml"\nsha256 = "{SHA}"\nweights_sha256 = "{SHA}" # of b.bin\n')  # fmt: skip
    assert [note for note in check(config, {}).notes if "check --fix" in note]
    told = list(mend(config, {}))
    assert f'mended {catalog}: model[1].weights_sha256 is named model[1].files."b.bin" now' in told
    assert f'files."b.bin" = "{SHA}" # of b.bin' in catalog.read_text()
    assert config.read_text().strip().startswith("version = 1")
    assert Catalog.read(catalog).renamed == ()
    assert check(config, {}).notes == ()


def test_a_catalog_in_one_s_home_is_mended_too(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    catalog = tmp_path / "mine.toml"
    catalog.write_text('[[model]]\nname = "b"\nvariant = "n"\nversion = "1"\n'
                       f'file = "b.xml"\nsha256 = "{SHA}"\nweights_sha256 = "{SHA}"\n')  # fmt: skip
    config.write_text(config.read_text().replace("[catalog]", '[catalog]\nfile = "~/mine.toml"\n'))
    assert f'mended {catalog}: model[0].weights_sha256 is named model[0].files."b.bin" now' in list(mend(config, {}))
    config.write_text(config.read_text().replace("~/mine", "~no-one-here/mine"))
    assert [one for one in mend(config, {}) if "mine.toml" in one] == [], "the check tells of it"


def test_what_is_no_toml_is_left_to_the_check(config: Path) -> None:
    config.write_text("[mqtt\n")
    assert list(mend(config, {})) == []
    assert config.read_text() == "[mqtt\n"
