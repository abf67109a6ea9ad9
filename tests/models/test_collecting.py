"""Files that the store's collection keeps, and those that it deletes."""

import os
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.json import encode
from support.scenario import Play

from agent.app.children.supply import SupplyProcess
from agent.control.job import Job
from agent.files import locked
from agent.messages.errors import MistakeError
from agent.models.keeping import in_use
from agent.models.keeping.in_use import read_in_use
from agent.models.store import Store
from agent.processes.loop import Loop
from agent.processes.supervisor import Supervisor

OLD_S = time.time() - 7200


def release(store_dir: Path, digit: str, used_s: float = OLD_S) -> Path:
    """Put a release into the store; return its file."""
    file = store_dir / "sha256" / (digit * 64) / "model.onnx"
    file.parent.mkdir(parents=True)
    file.write_bytes(digit.encode() * 10_000)
    os.utime(file, (used_s, used_s))
    os.utime(file.parent, (used_s, used_s))
    return file


@pytest.fixture
def store_dir(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(tmp_path: Path, store_dir: Path) -> Store:
    named = "a" * 64
    rows = f'[[model]]\nname = "cap"\nvariant = "n"\nversion = "1"\nsha256 = "{named}"\n'
    (tmp_path / "models.toml").write_text(f'{rows}file = "https://host/cap.onnx"\n')
    release(store_dir, "a")
    return Store(tmp_path / "models.toml", store_dir)


def test_what_the_catalog_names_stays_and_the_rest_goes(store: Store, store_dir: Path) -> None:
    file = release(store_dir, "b")
    found = store.collect({})
    assert {(one.folder.name[0], one.stays) for one in found} == {("a", True), ("b", False)}
    assert not file.parent.exists()
    assert [path.name[0] for path in (store_dir / "sha256").iterdir()] == ["a"]
    assert any("is cap:n@1 of the catalog" in one.why for one in found)


def test_what_is_in_use_stays(store: Store, store_dir: Path, tmp_path: Path) -> None:
    file = release(store_dir, "b")
    assert read_in_use(tmp_path) == {}
    (tmp_path / in_use.NAME).write_bytes(in_use.encoded({str(file): "active on line-1"}))
    found = store.collect(read_in_use(tmp_path))
    assert [one.why for one in found if one.folder == file.parent] == ["active on line-1"]
    assert file.exists()


def test_what_came_a_moment_ago_stays(store: Store, store_dir: Path) -> None:
    file = release(store_dir, "b", time.time())
    store.collect({})
    assert file.exists()


def test_what_was_used_longest_ago_goes_first(store: Store, store_dir: Path) -> None:
    files = [release(store_dir, digit, OLD_S - age_s) for digit, age_s in (("b", 1000), ("c", 3000), ("d", 2000))]
    store.collect({}, needed_bytes=20_000)
    assert [file.exists() for file in files] == [True, False, False]


def test_a_dry_run_deletes_nothing(store: Store, store_dir: Path) -> None:
    file = release(store_dir, "b")
    [found] = [one for one in store.survey({}) if not one.stays]
    assert (found.folder, found.bytes >= 10_000) == (file.parent, True)
    assert "nothing names it" in found.why
    assert file.exists()


def test_nothing_goes_where_the_catalog_cannot_be_read(store: Store, store_dir: Path, tmp_path: Path) -> None:
    file = release(store_dir, "b")
    (tmp_path / "models.toml").write_text("[[model]\n")
    with pytest.raises(MistakeError):
        store.collect({})
    assert file.exists()


def test_models_are_entered_and_taken_out_at_once_and_comments_stay(store: Store, tmp_path: Path) -> None:
    catalog = tmp_path / "models.toml"
    catalog.write_text("# of plant 7\n" + catalog.read_text())
    new = {"name": "cap", "variant": "n", "version": "2", "file": "/x/cap.onnx", "sha256": "b" * 64, "classes": ["cap"]}
    store.enter([new], ["cap:n@1"])
    text = catalog.read_text()
    assert "# of plant 7" in text
    assert 'version = "1"' not in text
    assert [one.reference for one in store._catalog().versions] == ["cap:n@2"]
    store.enter([new | {"imgsz": 320, "preprocess": {"resize": "corner", "scale": None}}], [])
    assert [(one.imgsz, one.preprocess.resize) for one in store._catalog().versions] == [(320, "corner")]


@pytest.mark.parametrize(("has_index", "follows"), [(False, False), (True, False), (False, True)])
def test_a_start_leaves_parts_that_the_catalog_or_the_job_goes_on_with_and_no_others(
    tmp_path: Path, *, has_index: bool, follows: bool
) -> None:
    parts = tmp_path / ".parts"
    (tmp_path / ".draft-fetched-1").mkdir(parents=True)
    parts.mkdir()
    for name in "abcd":
        for ending in ("part", "json"):
            (parts / f"{name * 64}.{ending}").write_bytes(b"half")
    (parts / "stick-1").mkdir()
    play = Play(Path(__file__).parents[1] / "scenarios" / "order-now")
    missing = encode({"sha256": "a" * 64, "files": {"cap.bin": "b" * 64}})
    play.state.plant = replace(play.state.plant, supply=replace(play.state.plant.supply, missing=(missing,)))
    entries = () if has_index else (encode({"sha256": "c" * 64}),)
    play.state.orders.job = Job("job-1", 1, entries=entries, index="https://host/index" if has_index else "")
    line = next(iter(play.state.lines.values()))
    line.rules = replace(line.rules, candidate="mlflow://hub/cap@candidate" if follows else "")
    settings = play.settings.model_copy()
    settings = settings.model_copy(update={"catalog": settings.catalog.model_copy(update={"store_dir": tmp_path})})
    with closing(Loop()) as loop:
        supply = SupplyProcess(Supervisor(loop, lambda _name, _message: None), lambda: settings, lambda _event: None)
        with locked(parts / "lock", 0.0):
            supply.begin(play.state)
        assert {path.stem[0] for path in parts.glob("*.part")} == set("abcd"), "another process fetches"
        supply.begin(play.state)
    left = "abcd" if has_index or follows else "abc"
    assert {path.stem[0] for path in (*parts.glob("*.part"), *parts.glob("*.json"))} == set(left)
    assert (parts / "stick-1").exists()
    assert (tmp_path / ".draft-fetched-1").exists() is has_index
