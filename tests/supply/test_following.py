"""Aliases of an MLflow registry: looked up, fetched as a version of the catalog, and tagged with results."""

import hashlib
import json
from pathlib import Path

import pytest
from support.fetches import Fetches, content_of
from support.file_server import FileServer, Served
from support.supply_child import supply_child

from agent.messages.short_lived.supply import AliasesFound, Fault, FollowAliases, Followed, SupplyHost
from agent.supply import following
from agent.supply.bounds.job import Job
from agent.supply.bounds.token_bucket import TokenBucket
from agent.supply.bounds.window import Window
from agent.supply.transfer.pace import Pace

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


def follow(box: Fetches, *aliases: Followed, known: tuple[str, ...] = ()) -> AliasesFound:
    with supply_child(box.setup) as child:
        child.follow(*aliases, known=known)
        answer = child.answer()
    assert isinstance(answer, AliasesFound)
    return answer


def fault_of(answer: AliasesFound) -> Fault:
    assert answer.fault is not None
    return answer.fault


def test_what_an_alias_means_is_fetched_as_a_version_like_the_newest_of_the_catalog(
    hub: FileServer, box: Fetches
) -> None:
    common = f'name = "cap-check"\nvariant = "n"\nfile = "a.onnx"\nsha256 = "{"1" * 64}"'
    rows = (f'version = "2"\nconfidence = 0.1\n{common}', f'version = "3"\nconfidence = 0.4\nimgsz = 320\n{common}')
    (box.folder / "models.toml").write_text("".join(f"[[model]]\n{row}\n" for row in rows))
    answer = follow(box, ONE)
    assert answer.found == ((ALIAS, "n", "cap-check:n@4"),)
    [entry] = map(json.loads, answer.entries)
    assert (entry["version"], entry["confidence"], entry["imgsz"]) == ("4", 0.4, 320)
    assert Path(entry["file"]).read_bytes() == CONTENT
    box.require_only(CONTENT)
    assert hub.posted == []


def test_a_version_that_is_known_is_not_fetched_again(hub: FileServer, box: Fetches) -> None:
    answer = follow(box, ONE, known=("cap-check:n@4",))
    assert (answer.found, answer.entries) == (((ALIAS, "n", "cap-check:n@4"),), ())
    assert len(hub.requests) == 1


def test_a_tag_may_name_the_variant(hub: FileServer, box: Fetches) -> None:
    means(hub, "4", sha256=SHA256, variant="s")
    answer = follow(box, ONE)
    assert answer.found == ((ALIAS, "n", "cap-check:s@4"),)


@pytest.mark.parametrize("status", [400, 404])
def test_an_alias_that_is_not_set_means_nothing(hub: FileServer, box: Fetches, status: int) -> None:
    hub.files[f"{API}/registered-models/alias"].status = status
    answer = follow(box, ONE)
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
    fault = fault_of(answer)
    assert not fault.is_transient
    assert words in fault.detail


def test_another_file_than_the_tag_says_is_refused(hub: FileServer, box: Fetches) -> None:
    means(hub, "4", sha256="2" * 64)
    answer = follow(box, ONE)
    fault = fault_of(answer)
    assert (fault.reason, fault.is_transient) == ("hash_mismatch", False)
    assert (answer.entries, answer.refused) == ((), ("cap-check:n@4",))


def test_a_server_with_a_fault_may_be_asked_again(hub: FileServer, box: Fetches) -> None:
    hub.files[f"{API}/registered-models/alias"].status = 503
    answer = follow(box, ONE)
    assert fault_of(answer).is_transient
    assert (answer.found, answer.missed) == ((), ((ALIAS, "n"),))


def test_results_are_written_as_tags_of_their_version(hub: FileServer, box: Fetches) -> None:
    follow(box, Followed(ALIAS, "n", (TAG,)), known=("cap-check:n@4",))
    [(path, body)] = hub.posted
    assert path == f"{API}/model-versions/set-tag"
    assert json.loads(body) == {"name": "cap-check", "version": "3", "key": TAG[1], "value": TAG[2]}


@pytest.mark.parametrize(("status", "unwritten"), [(403, ()), (404, ()), (302, ()), (503, (TAG[1],))])
def test_a_token_that_may_not_write_stops_nothing(
    hub: FileServer, box: Fetches, status: int, unwritten: tuple[str, ...]
) -> None:
    hub.files[f"{API}/model-versions/set-tag"].status = status
    answer = follow(box, Followed(ALIAS, "n", (TAG,)))
    assert len(answer.entries) == 1
    assert (answer.unwritten, answer.fault) == (unwritten, None)


def test_an_alias_that_fails_stops_no_other(box: Fetches) -> None:
    answer = follow(box, Followed("mlflow://127.0.0.1:9/seal-check@candidate", "m"), ONE)
    assert answer.missed == (("mlflow://127.0.0.1:9/seal-check@candidate", "m"),)
    assert len(answer.entries) == 1
    assert fault_of(answer).is_transient


def test_a_server_that_drips_its_answer_holds_a_look_for_a_moment(hub: FileServer, box: Fetches) -> None:
    hub.files[f"{API}/registered-models/alias"] = Served(
        b" " * 100_000, user="Bearer t0ken", pause_s=0.05, chunk_bytes=1
    )
    job = Job("job-1", 3600.0, lambda _progress: None, window=Window("", ""), bucket=TokenBucket(0))
    answer = following.follow(box.setup, FollowAliases("job-1", (ONE,), (), 3600.0), job, Pace(stall_s=0.5))
    assert fault_of(answer).reason == "source_hung"
