"""Doctor's look at the sources of models: reached in a process of its own, and what each lacks."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.file_server import FileServer, Served, file_server

from agent.doctor.supply.sources import try_sources
from agent.settings import load

SHA = "0" * 64
PLANT = """
[[stream]]
id = "cam-1"
line = "line-1"
source = "clip.avi"
[line.line-1]
default = "cap"
"""


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as served:
        yield served


def test_each_source_answers_or_says_what_it_lacks(server: FileServer, tmp_path: Path) -> None:
    server.files |= {"/1.onnx": Served(b"model"), "/2.onnx": Served(b"model", user="Bearer secret")}
    references = [server.url("/1.onnx"), server.url("/2.onnx"), server.url("/3.onnx"), "http://127.0.0.1:9/4.onnx"]
    rows = (
        f'[[model]]\nname = "cap"\nvariant = "n"\nversion = "{number}"\nfile = "{reference}"\nsha256 = "{SHA}"\n'
        for number, reference in enumerate(references)
    )
    (tmp_path / "models.toml").write_text("".join(rows))
    (tmp_path / "changeover.toml").write_text(PLANT)
    found = list(try_sources(load(tmp_path / "changeover.toml", {})))
    assert [one.verdict for one in found] == ["ok", "fail", "fail", "fail"]
    assert "source_refused" in found[1].text
    assert "supply.host" in found[1].text
    assert "not_found" in found[2].text
    assert "cut_off" in found[3].text


def test_a_registry_is_asked_for_the_layer_of_the_catalog(server: FileServer, tmp_path: Path) -> None:
    layer = {"digest": f"sha256:{SHA}", "size": 5, "annotations": {"org.opencontainers.image.title": "1.onnx"}}
    server.files["/v2/cap/manifests/1"] = Served(json.dumps({"layers": [layer]}).encode())
    server.files[f"/v2/cap/blobs/sha256:{SHA}"] = Served(b"model")
    row = f'name = "cap"\nvariant = "n"\nversion = "1"\nfile = "oci://hub/cap:1"\nsha256 = "{SHA}"\n'
    (tmp_path / "models.toml").write_text(f"[[model]]\n{row}")
    (tmp_path / "changeover.toml").write_text(f'[supply.host.hub]\nendpoint = "{server.url("")}"\n{PLANT}')
    [found] = try_sources(load(tmp_path / "changeover.toml", {}))
    assert found.verdict == "ok"


def test_a_catalog_without_sources_starts_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> bytes:
        raise AssertionError

    monkeypatch.setattr("agent.doctor.supply.sources.run_apart", refuse)
    (tmp_path / "models.toml").write_text("")
    (tmp_path / "changeover.toml").write_text(PLANT)
    assert list(try_sources(load(tmp_path / "changeover.toml", {}))) == []


def test_an_index_that_was_never_verified_is_told(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text("")
    text = f'[device]\nstate_dir = "state"\n[catalog]\nroot = "root.json"\nstore_dir = "{tmp_path}"\n'
    (tmp_path / "changeover.toml").write_text(text + PLANT)
    (one,) = try_sources(load(tmp_path / "changeover.toml", {}))
    assert (one.verdict, one.subject) == ("note", "index")


def test_an_alias_that_a_line_follows_is_tried(server: FileServer, tmp_path: Path) -> None:
    alias = Served(json.dumps({"model_version": {"version": "4"}}).encode(), user="Bearer t0ken")
    server.files["/api/2.0/mlflow/registered-models/alias"] = alias
    (tmp_path / "models.toml").write_text("")
    plant = f'[supply.host.hub]\nendpoint = "{server.url("")}"\n{PLANT}candidate = "mlflow://hub/cap@candidate"\n'
    (tmp_path / "changeover.toml").write_text(plant)
    [found] = try_sources(load(tmp_path / "changeover.toml", {}))
    assert (found.verdict, found.subject) == ("fail", "source mlflow://hub/cap@candidate")


@pytest.mark.parametrize("status", [400, 404])
def test_an_alias_that_is_not_set_is_no_fault(server: FileServer, tmp_path: Path, status: int) -> None:
    server.files["/api/2.0/mlflow/registered-models/alias"] = Served(b"{}", status=status)
    (tmp_path / "models.toml").write_text("")
    plant = f'[supply.host.hub]\nendpoint = "{server.url("")}"\n{PLANT}candidate = "mlflow://hub/cap@candidate"\n'
    (tmp_path / "changeover.toml").write_text(plant)
    [found] = try_sources(load(tmp_path / "changeover.toml", {}))
    assert (found.verdict, "not set" in found.text) == ("note", True)
