"""The doctor says which wall around the web process this kernel lacks."""

import re
import sys
from pathlib import Path

import pytest

from agent.doctor import host
from agent.settings import Settings, load

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRA: list[str] = _PROJECT["optional-dependencies"]["web"]


def configured(folder: Path, web: str) -> Settings:
    path = folder / "changeover.toml"
    path.write_text(
        f'[device]\nstate_dir = "state"\n[http]\nbind = ""\n[web]\n{web}\n'
        '[[stream]]\nid = "cam-1"\nline = "line-1"\nsource = "/dev/video0"\n[line.line-1]\ndefault = "cap-check"\n'
    )
    return load(path, {})


@pytest.mark.parametrize(("web", "notes"), [("", 0), ('bind = "127.0.0.1:0"', 1)])
def test_a_missing_wall_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, web: str, notes: int) -> None:
    monkeypatch.setattr(host, "missing_walls", lambda: {"files": "the kernel has no Landlock"})
    found = [one for one in host.try_binds(configured(tmp_path, web)) if "no Landlock" in str(one)]
    assert [one.verdict for one in found] == ["note"] * notes


@pytest.mark.parametrize("missing", [re.split(r"\W", one)[0] for one in EXTRA])
def test_each_package_that_serves_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setattr(host, "version_of", lambda name: None if name == missing else "1.0")
    found = [one for one in host.try_binds(configured(tmp_path, 'bind = "127.0.0.1:0"')) if "extra `web`" in str(one)]
    assert [one.verdict for one in found] == ["fail"]
    assert f"lacks {missing}:" in str(found[0])


@pytest.mark.parametrize(
    ("bind", "notes"),
    [("box.plant.example:0", 1), ("127.0.0.1:0", 0), ("[::1]:0", 0), ("known:0", 0), ("KNOWN.plant:0", 0), (":0", 0)],
)
def test_a_name_that_needs_dns_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bind: str, notes: int) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n10.0.0.1 known known.plant # box.plant.example\n")
    monkeypatch.setattr(host, "HOSTS", hosts)
    assert [one.verdict for one in host.names_in_binds({"web.bind": bind, "web.grpc_bind": ""})] == ["note"] * notes
