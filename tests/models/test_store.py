"""Files and their entries: added, verified, removed, with the user's own words left alone."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from support.tiny_models import write_tiny_model

from agent.files import file_sha256
from agent.messages.errors import MistakeError, ModelError
from agent.messages.references import ModelReference
from agent.models.catalog import Catalog
from agent.models.file_faults import mismatch, verify
from agent.models.keeping.copying import Release
from agent.models.store import Store

Writer = Callable[..., Catalog]


def reference(text: str) -> ModelReference:
    parsed = ModelReference.parse(text)
    assert parsed is not None
    return parsed


def release(text: str, *classes: str, rank: float | None = None) -> Release:
    return Release(reference(text), classes, rank)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "download" / "best.onnx"
    file.parent.mkdir()
    return write_tiny_model(file)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models.toml", tmp_path / "store")


def test_added_is_found_and_verified(store: Store, source: Path, tmp_path: Path) -> None:
    version = store.add(release("cap:n@3"), source)
    assert Path(version.path).parent == tmp_path / "store" / "sha256" / version.sha256
    assert Path(version.path).read_bytes() == source.read_bytes()
    assert version.sha256 == hashlib.sha256(source.read_bytes()).hexdigest() == file_sha256(source)
    assert Catalog.load(tmp_path / "models.toml").find(ModelReference("cap"), "n") == version
    verify(version)


@pytest.mark.parametrize("name", ["BEST.ONNX", "best.Onnx", "größe 1 (neu).onnx"])
def test_a_file_is_kept_under_a_name_that_runtimes_know(store: Store, source: Path, name: str) -> None:
    version = store.add(release("cap:n@3"), source.rename(source.with_name(name)))
    assert Path(version.path).name == "model.onnx"
    verify(version)


NET = """<net name="m" version="11"><layers>
<layer id="0" name="x" type="Parameter"><data shape="{shape}" element_type="f32"/></layer>
<layer id="1" name="w" type="Const"><data element_type="f32" shape="2" offset="0" size="{size}"/></layer>
</layers><rt_info>{names}</rt_info></net>"""
LABELS = '<model_info><labels value="cap no-cap"/></model_info>'


def write_ir(folder: Path, stem: str = "best", *, shape: str = "1,3,64,64", size: int = 8, names: str = LABELS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.bin").write_bytes(b"weights!")
    file = folder / f"{stem}.xml"
    file.write_text(NET.format(shape=shape, size=size, names=names))
    return file


def blobs(tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "store").rglob("*") if path.is_file())


def test_an_openvino_model_brings_its_weights(store: Store, tmp_path: Path) -> None:
    file = write_ir(tmp_path / "export")
    file.with_suffix(".bin").rename(tmp_path / "elsewhere")
    with pytest.raises(MistakeError, match=r"best\.xml needs best\.bin beside it"):
        store.add(release("cap:n@3"), file)
    (tmp_path / "elsewhere").rename(file.with_suffix(".bin"))
    version = store.add(release("cap:n@3"), file)
    assert [more.name for more in version.files] == ["model.bin"]
    verify(version)
    Path(version.path).with_suffix(".bin").write_bytes(b"damaged!")
    with pytest.raises(ModelError) as caught:
        verify(version)
    assert caught.value.reason == "hash_mismatch"
    store.remove(reference("cap:n@3"))
    assert not blobs(tmp_path)


@pytest.mark.parametrize("sidecar", ["metadata.yaml", "best.yaml"])
def test_an_exported_folder_is_added_with_its_names(store: Store, tmp_path: Path, sidecar: str) -> None:
    file = write_ir(tmp_path / "best_openvino_model", names="")
    (file.parent / sidecar).write_text("stride: 32\nnames: {0: 'cap (red)', 1: 'no cap'}\n")
    version = store.add(release("cap:n@3"), file.parent)
    kept = "metadata.yaml" if sidecar == "metadata.yaml" else "model.yaml"
    assert [more.name for more in version.files] == ["model.bin", kept]
    verify(version)
    (Path(version.path).parent / kept).write_text("names: {0: other, 1: names}\n")
    with pytest.raises(ModelError, match="sha256"):
        verify(version)


def test_names_that_lie_beside_an_entry_without_their_sha256_are_a_mistake(store: Store, tmp_path: Path) -> None:
    version = store.add(release("cap:n@3"), write_ir(tmp_path / "export"))
    verify(version)
    (Path(version.path).parent / "metadata.yaml").write_text("names: {0: other}\n")
    with pytest.raises(ModelError, match=r"no sha256 of metadata\.yaml, which is read with model\.xml"):
        verify(version)


def write_external(file: Path, location: str = "weights.data") -> Path:
    write_tiny_model(file)
    onnx.save(onnx.load(file), file, save_as_external_data=True, location=location, size_threshold=0)
    return file


def test_weights_outside_an_onnx_file_are_copied_and_hashed(store: Store, source: Path, tmp_path: Path) -> None:
    write_external(source)
    version = store.add(release("cap:n@3"), source)
    assert [more.name for more in version.files] == ["weights.data"]
    weights = Path(version.path).parent / "weights.data"
    assert weights.read_bytes() == (source.parent / "weights.data").read_bytes()
    verify(version)
    weights.write_bytes(bytes(len(weights.read_bytes())))
    with pytest.raises(ModelError, match=r"weights\.data has sha256"):
        verify(version)
    store.remove(reference("cap:n@3"))
    assert not blobs(tmp_path)


def test_an_entry_without_its_external_weights_is_a_mistake(source: Path, tmp_path: Path) -> None:
    write_external(source)
    sha256 = file_sha256(source)
    row = f'name = "cap"\nvariant = "n"\nversion = "3"\nfile = "{source}"\nsha256 = "{sha256}"\n'
    (tmp_path / "models.toml").write_text(f"[[model]]\n{row}")
    error = mismatch(Catalog.load(tmp_path / "models.toml").versions[0])
    assert error is not None
    assert (error.reason, "weights.data" in str(error)) == ("hash_mismatch", True)


def test_weights_are_taken_from_beside_the_file_only(store: Store, source: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(1 << 16))
    model = onnx.load(write_external(source), load_external_data=False)
    for tensor in model.graph.initializer:
        for pair in tensor.external_data:
            if pair.key == "location":
                pair.value = "../secret"
    source.write_bytes(model.SerializeToString())
    with pytest.raises(MistakeError, match="no file beside it"):
        store.add(release("cap:n@3"), source)
    assert not blobs(tmp_path)


def test_names_of_releases_never_meet(store: Store, tmp_path: Path) -> None:
    first = store.add(release("cap:n@3-1"), write_tiny_model(tmp_path / "a.onnx", names=("one", "two")))
    kept = Path(first.path).read_bytes()
    second = store.add(release("cap:n-3@1"), write_tiny_model(tmp_path / "b.onnx", names=("three", "four")))
    assert first.path != second.path
    assert Path(first.path).read_bytes() == kept
    for version in Catalog.load(tmp_path / "models.toml").versions:
        verify(version)


def test_one_file_under_two_names_is_kept_until_both_are_gone(store: Store, source: Path) -> None:
    first, second = store.add(release("cap:n@3"), source), store.add(release("cap:n@4"), source)
    assert first.path == second.path
    store.remove(reference("cap:n@3"))
    verify(second)
    store.remove(reference("cap:n@4"))
    assert not Path(first.path).exists()


def test_a_damaged_file_in_the_store_is_replaced_by_adding_it_again(store: Store, source: Path) -> None:
    damaged = store.add(release("cap:n@3"), source)
    Path(damaged.path).write_bytes(b"damaged")
    verify(store.add(release("cap:n@4"), source))
    verify(damaged)


def test_a_file_that_changes_while_it_is_added_is_entered_as_it_was_copied(
    store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is another one as soon as it was read: its name is never opened for a hash again."""
    read = Path.open

    def replaced_behind(self: Path, *args: object, **kwargs: object) -> object:
        stream = read(self, *args, **kwargs)  # type: ignore[call-overload]
        if self == source:
            source.unlink()
            write_tiny_model(source, names=("other", "names"))
        return stream

    wanted = file_sha256(source)
    monkeypatch.setattr(Path, "open", replaced_behind)
    version = store.add(release("cap:n@3"), source)
    monkeypatch.undo()
    assert version.sha256 == wanted == file_sha256(Path(version.path))


def test_a_draft_of_an_add_that_was_killed_is_swept(store: Store, source: Path, tmp_path: Path) -> None:
    left = tmp_path / "store" / ".draft-killed"
    left.mkdir(parents=True)
    (left / "model.onnx").write_bytes(b"half")
    store.add(release("cap:n@3"), source)
    assert left.exists()  # it may be another add's, which is under way
    import agent.models.store as module  # noqa: PLC0415 - its constant is changed here

    old, module._DRAFT_LIVES_S = module._DRAFT_LIVES_S, -1.0  # type: ignore[misc]
    try:
        store.add(release("cap:n@4"), source)
    finally:
        module._DRAFT_LIVES_S = old  # type: ignore[misc]
    assert not left.exists()


def test_a_release_in_the_store_of_an_older_version_is_removed_with_its_files(store: Store, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    file = write_ir(tmp_path / "store", "cap-n-3")
    row = f'name = "cap"\nvariant = "n"\nversion = "3"\nfile = "{file}"\nsha256 = "{file_sha256(file)}"\n'
    row += f'weights_sha256 = "{file_sha256(file.with_suffix(".bin"))}"\n'
    (tmp_path / "models.toml").write_text(f"[[model]]\n{row}")
    verify(Catalog.load(tmp_path / "models.toml").versions[0])
    store.remove(reference("cap:n@3"))
    assert not blobs(tmp_path)


def test_a_users_comments_stay(store: Store, source: Path, tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    own = '# our models\n[[model]] # the old one\nname = "old"\nvariant = "n"\nversion = "1"\nfile = "old.onnx"\n'
    own += f'sha256 = "{"0" * 64}"\n'
    file.write_text(own)
    store.add(release("cap:n@3"), source)
    assert file.read_text().startswith(own)
    assert [version.reference for version in Catalog.load(file).versions] == ["old:n@1", "cap:n@3"]
    store.remove(reference("cap:n@3"))
    assert "# our models" in file.read_text()
    assert "# the old one" in file.read_text()
    assert [version.reference for version in Catalog.load(file).versions] == ["old:n@1"]


def test_comments_of_other_entries_stay_where_one_is_taken_out(store: Store, tmp_path: Path) -> None:
    rows = [
        f'# about {number}\n[[model]]\nname = "cap"\nvariant = "n"\nversion = "{number}"  # of {number}\n'
        f'file = "/{number}.onnx"\nsha256 = "{number * 64}"\n\n'
        for number in "123"
    ]
    file = tmp_path / "models.toml"
    file.write_text("".join(rows) + "# the end\n")
    same: dict[str, object] = {"name": "cap", "variant": "n", "version": "1", "file": "/1.onnx", "sha256": "1" * 64}
    store.enter([same | {"classes": []}], ["cap:n@2"])
    assert file.read_text() == f"{rows[0]}# about 2\n{rows[2]}# the end\n"
    store.enter([], ["cap:n@3"])
    assert [version.reference for version in Catalog.load(file).versions] == ["cap:n@1"]
    assert "# the end" in file.read_text()
    store.enter([same | {"version": "4"}], ["cap:n@1"])
    assert [version.reference for version in Catalog.load(file).versions] == ["cap:n@4"]
    assert "# the end" in file.read_text()
    assert "# about 1" in file.read_text()


def test_a_catalog_with_an_old_name_of_a_key_takes_further_models(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    row = f'[[model]]\nname = "cap"\nvariant = "n"\nversion = "1"\nfile = "/1.xml"\nsha256 = "{"1" * 64}"\n'
    file.write_text(f'{row}weights_sha256 = "{"2" * 64}"\n')
    store.enter([{"name": "cap", "variant": "n", "version": "2", "file": "/2.onnx", "sha256": "3" * 64}], [])
    assert [version.reference for version in Catalog.load(file).versions] == ["cap:n@1", "cap:n@2"]
    assert "weights_sha256" in file.read_text(), "what nobody ordered stays as it is"


def test_a_removed_version_takes_only_the_stores_file(store: Store, source: Path, written: Writer) -> None:
    mine = Path(written(("own", "n", "1")).versions[0].path)
    copied = Path(store.add(release("cap:n@3"), source).path)
    store.remove(reference("cap:n@3"))
    store.remove(reference("own:n@1"))
    assert not copied.exists()
    assert mine.exists()
    assert source.exists()


def test_releases_are_immutable(store: Store, source: Path, tmp_path: Path) -> None:
    version = store.add(release("cap:n@3"), source)
    catalog = (tmp_path / "models.toml").read_bytes()
    kept = Path(version.path).read_bytes()
    write_tiny_model(source, names=("other", "names"))
    with pytest.raises(MistakeError, match="immutable"):
        store.add(release("cap:n@3"), source)
    assert (tmp_path / "models.toml").read_bytes() == catalog
    assert Path(version.path).read_bytes() == kept
    verify(version)


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("cap:n", "best.onnx", "full reference"),
        ("cap@3", "best.onnx", "full reference"),
        ("cap:big@3", "best.onnx", "--rank"),
        ("cap:n@3", "none.onnx", "no such file"),
        ("cap:n@3", "best.zip", r"ends in \.onnx"),
    ],
)
def test_what_cannot_be_added_is_said(store: Store, source: Path, text: str, name: str, words: str) -> None:
    with pytest.raises(MistakeError, match=words):
        store.add(release(text), source.with_name(name))
    assert [path.name for path in source.parent.parent.iterdir()] == ["download"]


def test_a_variant_of_its_own_is_added_with_its_rank(store: Store, source: Path) -> None:
    assert store.add(release("cap:big@3", rank=9), source).rank == 9


def test_what_is_not_in_the_catalog_cannot_be_removed(store: Store) -> None:
    with pytest.raises(MistakeError, match="models list"):
        store.remove(reference("cap:n@3"))


def test_a_missing_or_changed_file_is_seen(written: Writer) -> None:
    missing, changed, good = written(("a", "n", "1"), ("b", "n", "1"), ("c", "n", "1")).versions
    Path(missing.path).unlink()
    Path(changed.path).write_bytes(b"other")
    assert mismatch(good) is None
    for version, reason in ((missing, "file_missing"), (changed, "hash_mismatch")):
        with pytest.raises(ModelError) as caught:
            verify(version)
        assert caught.value.reason == reason


def test_the_last_release_may_go_and_another_one_come(store: Store, source: Path, tmp_path: Path) -> None:
    store.add(release("cap:n@3"), source)
    store.remove(ModelReference("cap", "n", "3"))
    store.add(release("cap:n@4"), source)
    store.add(release("cap:n@5"), source)
    assert [version.version for version in Catalog.load(tmp_path / "models.toml").versions] == ["4", "5"]


def test_a_short_yaml_of_many_aliases_takes_no_time(store: Store, tmp_path: Path) -> None:
    file = write_ir(tmp_path / "export")
    rows = ["l0: &l0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    rows += [f"l{at}: &l{at} [{', '.join([f'*l{at - 1}'] * 10)}]" for at in range(1, 20)]
    (file.parent / "metadata.yaml").write_text("\n".join([*rows, "stride: *l19", "names: {0: cap, 1: no-cap}"]))
    assert store.add(release("cap:n@3"), file).files[-1].name == "metadata.yaml"


def test_what_roots_command_writes_belongs_to_the_folders_owner(
    store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[str, bool]] = []
    monkeypatch.setattr("agent.models.store.os.geteuid", lambda: 0)
    monkeypatch.setattr(
        "agent.models.store.os.chown",
        lambda path, _user, _group, *, follow_symlinks: given.append((Path(path).name, follow_symlinks)),
    )
    store.add(release("cap:n@3"), source)
    assert {("models.toml", False), ("models.toml.lock", False)} <= set(given)
