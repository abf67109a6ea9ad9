"""Aliases of an MLflow registry: looked up, fetched as a version of the catalog, and tagged with results."""

import hashlib
import json
from pathlib import Path

import pytest
from support.fetches import Fetches, content_of
from support.file_server import FileServer, Served
from support.supply_child import supply_child

from agent.messages.short_lived.supply import AliasesFound, FetchFailed, Followed, SupplyHost

CONTENT = content_of(50_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
API = "/api/2.0/mlflow"
PROXY = "/api/2.0/mlflow-artifacts/artifacts"
ALIAS = "mlflow://tracking/cap-check@candidate"
TAG = ("3", "changeover.box-7.line-1", '{"result":"promoted"}')
ONE = Followed(ALIAS, "n")


def as_json(value: object) -> Served:
    return Served(json.dumps(value).encode())


def means(server: FileServer, version: str, **tags: str) -> None:
    listed = [{"key": key, "value": value} for key, value in tags.items()]
    answer = {"model_version": {"name": "cap-check", "version": version, "tags": listed}}
    server.files[f"{API}/registered-models/alias"] = as_json(answer)


@pytest.fixture
def hub(server: FileServer) -> FileServer:
    """Serve version 4 of a model, which the alias means, behind a token."""
    means(server, "4", sha256=SHA256)
    server.files[f"{API}/model-versions/get-download-uri"] = as_json({"artifact_uri": "mlflow-artifacts:/1/r/cap"})
    server.files[PROXY] = as_json({"files": [{"path": "cap.onnx", "is_dir": False, "file_size": len(CONTENT)}]})
    server.files[f"{PROXY}/1/r/cap/cap.onnx"] = Served(CONTENT, cuts=[1000])
    server.files[f"{API}/model-versions/set-tag"] = as_json({})
    for served in server.files.values():
        served.user = "Bearer t0ken"
    return server


@pytest.fixture
def box(hub: FileServer, tmp_path: Path) -> Fetches:
    (tmp_path / "token").write_text("t0ken")
    return Fetches(tmp_path, SupplyHost("tracking", token_file=str(tmp_path / "token"), endpoint=hub.url("")))


def follow(box: Fetches, *aliases: Followed, known: tuple[str, ...] = ()) -> AliasesFound | FetchFailed:
    with supply_child(box.setup) as child:
        child.follow(*aliases, known=known)
        answer = child.answer()
    assert isinstance(answer, (AliasesFound, FetchFailed))
    return answer


def test_what_an_alias_means_is_fetched_as_a_version_like_the_newest_of_the_catalog(
    hub: FileServer, box: Fetches
) -> None:
    common = f'name = "cap-check"\nvariant = "n"\nfile = "a.onnx"\nsha256 = "{"1" * 64}"'
    rows = (f'version = "2"\nconfidence = 0.1\n{common}', f'version = "3"\nconfidence = 0.4\nimgsz = 320\n{common}')
    (box.folder / "models.toml").write_text("".join(f"[[model]]\n{row}\n" for row in rows))
    answer = follow(box, ONE)
    assert isinstance(answer, AliasesFound), answer
    assert answer.found == ((ALIAS, "n", "cap-check:n@4"),)
    [entry] = map(json.loads, answer.entries)
    assert (entry["version"], entry["confidence"], entry["imgsz"]) == ("4", 0.4, 320)
    assert Path(entry["file"]).read_bytes() == CONTENT
    box.require_only(CONTENT)
    assert hub.posted == []


def test_a_version_that_is_known_is_not_fetched_again(hub: FileServer, box: Fetches) -> None:
    answer = follow(box, ONE, known=("cap-check:n@4",))
    assert isinstance(answer, AliasesFound)
    assert (answer.found, answer.entries) == (((ALIAS, "n", "cap-check:n@4"),), ())
    assert len(hub.requests) == 1


def test_a_tag_may_name_the_variant(hub: FileServer, box: Fetches) -> None:
    means(hub, "4", sha256=SHA256, variant="s")
    answer = follow(box, ONE)
    assert isinstance(answer, AliasesFound)
    assert answer.found == ((ALIAS, "n", "cap-check:s@4"),)


@pytest.mark.parametrize("status", [400, 404])
def test_an_alias_that_is_not_set_means_nothing(hub: FileServer, box: Fetches, status: int) -> None:
    hub.files[f"{API}/registered-models/alias"].status = status
    answer = follow(box, ONE)
    assert isinstance(answer, AliasesFound)
    assert (answer.found, answer.entries) == ((), ())


@pytest.mark.parametrize(
    ("tags", "words"),
    [({}, "set the tag sha256 of version 4"), ({"sha256": SHA256, "variant": "no variant"}, "expected names")],
)
def test_a_version_that_says_too_little_is_refused_with_its_cure(
    hub: FileServer, box: Fetches, tags: dict[str, str], words: str
) -> None:
    means(hub, "4", **tags)
    answer = follow(box, ONE)
    assert isinstance(answer, FetchFailed)
    assert not answer.is_transient
    assert words in answer.detail


def test_another_file_than_the_tag_says_is_refused(hub: FileServer, box: Fetches) -> None:
    means(hub, "4", sha256="2" * 64)
    answer = follow(box, ONE)
    assert isinstance(answer, FetchFailed)
    assert (answer.reason, answer.is_transient) == ("hash_mismatch", False)


def test_a_server_with_a_fault_may_be_asked_again(hub: FileServer, box: Fetches) -> None:
    hub.files[f"{API}/registered-models/alias"].status = 503
    answer = follow(box, ONE)
    assert isinstance(answer, FetchFailed)
    assert answer.is_transient


def test_results_are_written_as_tags_of_their_version(hub: FileServer, box: Fetches) -> None:
    follow(box, Followed(ALIAS, "n", (TAG,)), known=("cap-check:n@4",))
    [(path, body)] = hub.posted
    assert path == f"{API}/model-versions/set-tag"
    assert json.loads(body) == {"name": "cap-check", "version": "3", "key": TAG[1], "value": TAG[2]}


@pytest.mark.parametrize(("status", "is_done"), [(403, True), (404, True), (302, True), (503, False)])
def test_a_token_that_may_not_write_stops_nothing(hub: FileServer, box: Fetches, status: int, *, is_done: bool) -> None:
    hub.files[f"{API}/model-versions/set-tag"].status = status
    answer = follow(box, Followed(ALIAS, "n", (TAG,)))
    assert isinstance(answer, AliasesFound if is_done else FetchFailed)
