"""The doctor says which wall around the web process this kernel lacks."""

from pathlib import Path

import pytest

from agent.doctor import host
from agent.settings import load


@pytest.mark.parametrize(("web", "notes"), [("", 0), ('bind = "127.0.0.1:0"', 1)])
def test_a_missing_wall_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, web: str, notes: int) -> None:
    monkeypatch.setattr(host, "missing_walls", lambda: {"files": "the kernel has no Landlock"})
    path = tmp_path / "changeover.toml"
    path.write_text(
        f'[device]\nstate_dir = "state"\n[http]\nbind = ""\n[web]\n{web}\n'
        '[[stream]]\nid = "cam-1"\nline = "line-1"\nsource = "/dev/video0"\n[line.line-1]\ndefault = "cap-check"\n'
    )
    found = [one for one in host.try_binds(load(path, {})) if "no Landlock" in str(one)]
    assert [one.verdict for one in found] == ["note"] * notes


@pytest.mark.parametrize(
    ("bind", "notes"),
    [("box.plant.example:0", 1), ("127.0.0.1:0", 0), ("[::1]:0", 0), ("known:0", 0), ("KNOWN.plant:0", 0), (":0", 0)],
)
def test_a_name_that_needs_dns_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bind: str, notes: int) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n10.0.0.1 known known.plant # box.plant.example\n")
    monkeypatch.setattr(host, "HOSTS", hosts)
    assert [one.verdict for one in host.names_in_binds({"web.bind": bind, "web.grpc_bind": ""})] == ["note"] * notes
