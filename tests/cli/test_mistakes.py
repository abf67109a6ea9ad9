"""docs/mistakes.md has every mistake of configuration with exactly what `check` says of it."""

import os
import pwd
import re
import tempfile
from pathlib import Path

import pytest
from support.configuration_mistakes import AS_ROOT, MISTAKES, good

from agent import __version__
from agent.app.configuration import check as module
from agent.app.configuration.check import check
from agent.app.configuration.service_access import Service

PAGE = Path(__file__).parents[2] / "docs" / "mistakes.md"
SECTION = PAGE.read_text(encoding="utf-8").partition("## Configuration\n")[2].partition("\n## ")[0]
SAID = dict(re.findall(r"^\| (.+?) \| `` (.+) `` \|$", SECTION, re.MULTILINE))
"""Messages by mistake, as the page has them."""


def said(folder: Path) -> list[str]:
    """Return what `check` says, as the page would have it."""
    lines = [str(mistake) for mistake in check(folder / "changeover.toml", {}).mistakes]
    return [line.replace(str(folder), "FOLDER").replace(__version__, "VERSION") for line in lines]


def test_the_page_lists_these_mistakes_and_no_other() -> None:
    assert list(SAID) == [*MISTAKES, *AS_ROOT]


def test_a_good_configuration_has_none(tmp_path: Path) -> None:
    good(tmp_path)
    assert said(tmp_path) == []


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_with_its_cause_and_its_cure(mistake: str, tmp_path: Path) -> None:
    good(tmp_path)
    MISTAKES[mistake](tmp_path)
    assert said(tmp_path) == [SAID[mistake]]
    assert "hunter" not in SAID[mistake]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask as somebody else")
@pytest.mark.parametrize("mistake", AS_ROOT)
def test_root_is_told_what_the_service_cannot_do(mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = pwd.getpwnam("nobody")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to(tempfile.gettempdir()) and folder != Path(tempfile.gettempdir()):
            folder.chmod(folder.stat().st_mode | 0o111)  # pytest's own folders are closed
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, nobody.pw_uid, nobody.pw_gid)
    hidden = ((tmp_path / "home", "ProtectHome=yes"),)
    service = Service("nobody", nobody.pw_uid, nobody.pw_gid, (), hidden, (), (state,))
    monkeypatch.setattr(module, "service_of", lambda _: service)
    file = good(tmp_path)
    file.write_text(f'[device]\nstate_dir = "state"\n{file.read_text()}'.replace("version = 1\n", ""))
    assert said(tmp_path) == []
    AS_ROOT[mistake](tmp_path)
    assert said(tmp_path) == [SAID[mistake]]
