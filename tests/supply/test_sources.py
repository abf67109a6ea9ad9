"""Each kind of source against a small server that answers as the real one does (tests/partners has the real ones)."""

import copy
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fetches import Fetches, content_of, entry
from support.file_server import FileServer, Served

from agent.messages.errors import ModelError
from agent.messages.short_lived.supply import SupplyHost
from agent.settings.fields.sources import REMOTE
from agent.supply.sources import RESOLVERS, resolve
from agent.supply.sources.hosts import Hosts
from agent.supply.sources.web import Web
from agent.supply.wanted import Wanted
from agent.trust.authoring.signing import sign_file
from agent.trust.minisign import SecretKey

CONTENT = content_of(50_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
TITLE = "org.opencontainers.image.title"
API = "/api/2.0/mlflow"
PROXY = "/api/2.0/mlflow-artifacts/artifacts"


def as_json(value: object) -> Served:
    return Served(json.dumps(value).encode())


def registry(server: FileServer, tmp_path: Path) -> Fetches:
    """Serve one artifact behind a token, as a registry does."""
    secret = tmp_path / "secret"
    secret.write_text("pass")
    manifest = {
        "layers": [
            {"digest": "sha256:" + "0" * 64, "size": 1, "annotations": {TITLE: "readme.md"}},
            {"digest": f"sha256:{SHA256}", "size": len(CONTENT), "annotations": {TITLE: "cap.onnx"}},
        ]
    }
    challenge = f'Bearer realm="{server.url("/token")}",service="registry",scope="repository:models/cap:pull"'
    ask = {"WWW-Authenticate": challenge}
    server.files["/token"] = as_json({"token": "t0ken"})
    server.files["/token"].user = "Basic cGFzczpwYXNz"
    for name in ("v4", f"sha256:{hashlib.sha256(json.dumps(manifest).encode()).hexdigest()}"):
        server.files[f"/v2/models/cap/manifests/{name}"] = as_json(manifest)
        server.files[f"/v2/models/cap/manifests/{name}"].user = "Bearer t0ken"
        server.files[f"/v2/models/cap/manifests/{name}"].headers = ask
    server.files[f"/v2/models/cap/blobs/sha256:{SHA256}"] = Served(CONTENT, user="Bearer t0ken", cuts=[1000])
    host = SupplyHost("hub", access_key_file=str(secret), secret_key_file=str(secret), endpoint=server.url(""))
    return Fetches(tmp_path, host)


def test_an_artifact_of_a_registry_by_tag_and_by_digest(server: FileServer, tmp_path: Path) -> None:
    fetches = registry(server, tmp_path)
    [found] = fetches.fetch(entry("oci://hub/models/cap:v4", CONTENT))
    assert Path(found["file"]).name == "model.onnx"
    digest = next(path for path in server.files if "/manifests/sha256:" in path).split("/")[-1]
    fetches.fetch(entry(f"oci://hub/models/cap@{digest}", CONTENT))
    fetches.require_only(CONTENT)


def test_a_registry_with_other_files_is_refused(server: FileServer, tmp_path: Path) -> None:
    fetches = registry(server, tmp_path)
    with pytest.raises(ModelError) as refused:
        fetches.fetch(entry("oci://hub/models/cap:v4", b"other"))
    assert refused.value.reason == "hash_mismatch"
    digest = next(path for path in server.files if "/manifests/sha256:" in path)
    server.files[digest].content += b" "
    with pytest.raises(ModelError, match="the manifest is not"):
        fetches.fetch(entry(f"oci://hub/models/cap@{digest.split('/')[-1]}", CONTENT))


def test_each_file_of_an_artifact_has_a_signature_of_its_own(server: FileServer, tmp_path: Path) -> None:
    key = SecretKey.make()
    layers = []
    for name, content in (("names.txt", b"cap"), ("cap.onnx", CONTENT)):
        (tmp_path / name).write_bytes(content)
        signature = sign_file(tmp_path / name, key).read_bytes()
        for title, layer in ((name, content), (f"{name}.minisig", signature)):
            digest = f"sha256:{hashlib.sha256(layer).hexdigest()}"
            layers.append({"digest": digest, "size": len(layer), "annotations": {TITLE: title}})
            server.files[f"/v2/models/cap/blobs/{digest}"] = Served(layer)
    host = SupplyHost("hub", endpoint=server.url(""))
    server.files["/v2/models/cap/manifests/v4"] = as_json({"layers": layers})
    files = {"names.txt": hashlib.sha256(b"cap").hexdigest()}
    fetches = Fetches(tmp_path / "all", host, trusted_keys=(key.public.line,))
    [found] = fetches.fetch(entry("oci://hub/models/cap:v4", CONTENT, files=files))
    assert Path(found["file"]).with_name("names.txt.minisig").is_file()
    layers[3]["annotations"] = {TITLE: "of-plant-7.minisig"}  # the only one may have any name
    server.files["/v2/models/cap/manifests/v5"] = as_json({"layers": layers[2:]})
    fetches = Fetches(tmp_path / "one", host, trusted_keys=(key.public.line,))
    fetches.fetch(entry("oci://hub/models/cap:v5", CONTENT))
    fetches.require_only(CONTENT)


@pytest.mark.parametrize("title", ["signed/by-plant-7.minisig", "by-plant-7"])
def test_a_signature_of_an_artifact_may_be_named(server: FileServer, tmp_path: Path, title: str) -> None:
    key = SecretKey.make()
    (tmp_path / "cap.onnx").write_bytes(CONTENT)
    signature = sign_file(tmp_path / "cap.onnx", key).read_bytes()
    layers = []
    for name, layer in (("cap.onnx", CONTENT), (title, signature), ("other.minisig", b"of another file")):
        digest = f"sha256:{hashlib.sha256(layer).hexdigest()}"
        layers.append({"digest": digest, "size": len(layer), "annotations": {TITLE: name}})
        server.files[f"/v2/models/cap/blobs/{digest}"] = Served(layer)
    server.files["/v2/models/cap/manifests/v4"] = as_json({"layers": layers})
    fetches = Fetches(tmp_path, SupplyHost("hub", endpoint=server.url("")), trusted_keys=(key.public.line,))
    [found] = fetches.fetch(entry("oci://hub/models/cap:v4", CONTENT, signature=title))
    assert Path(found["file"] + ".minisig").read_bytes() == signature
    other = Fetches(tmp_path / "other", SupplyHost("hub", endpoint=server.url("")), trusted_keys=(key.public.line,))
    with pytest.raises(ModelError) as refused:
        other.fetch(entry("oci://hub/models/cap:v4", CONTENT, signature="missing"))
    assert refused.value.reason == "unsigned"


ODD: tuple[object, ...] = (
    None,
    True,
    7,
    -1,
    1.5,
    "",
    "text",
    "\ud800",
    [],
    [[]],
    {},
    {"a": 1},
    [None],
    "../" * 9,
    2**70,
)


def variants(value: object) -> Iterator[object]:
    """Yield `value` with each of its fields, at any depth, left out or replaced by each odd value."""
    yield from ODD
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    for key in keys:
        held = value[key]  # type: ignore[index]
        for other in variants(held):
            changed = copy.copy(value)
            changed[key] = other  # type: ignore[index]
            yield changed
    if isinstance(value, dict):
        yield from ({name: one for name, one in value.items() if name != key} for key in value)


def test_an_answer_of_any_form_is_taken_or_refused(server: FileServer, tmp_path: Path) -> None:
    server.keeps_connections = True
    fetches = registry(server, tmp_path)
    mlflow = SupplyHost("tracking", endpoint=server.url(""))
    files = [{"path": "cap.onnx", "is_dir": False, "file_size": len(CONTENT)}]
    answers: dict[str, object] = {
        f"{API}/registered-models/alias": {"model_version": {"version": "4"}},
        f"{API}/model-versions/get-download-uri": {"artifact_uri": "mlflow-artifacts:/1/r/cap"},
        PROXY: {"files": files},
        "/token": {"token": "t0ken"},
        "/v2/models/cap/manifests/v4": json.loads(server.files["/v2/models/cap/manifests/v4"].content),
    }
    for path in (path for path in answers if path.startswith("/api")):
        server.files[path] = as_json(answers[path])
    with Web(Hosts((*fetches.setup.hosts, mlflow)), stall_s=10.0) as web:
        outcomes: set[str] = set()
        for path, answer in answers.items():
            is_mlflow = path.startswith("/api")
            reference = "mlflow://tracking/cap@champion" if is_mlflow else "oci://hub/models/cap:v4"
            for wanted in (Wanted(reference, SHA256), Wanted(reference, SHA256, ending=".minisig", is_signature=True)):
                for odd in variants(answer):
                    server.files[path].content = json.dumps(odd).encode()
                    try:
                        resolve(wanted, web)
                        outcomes.add("found")
                    except ModelError as error:
                        outcomes.add(error.reason)
                server.files[path].content = json.dumps(answer).encode()
    assert outcomes == {"found", "source_refused", "not_found", "hash_mismatch"}


def test_the_requests_of_a_job_share_connections(server: FileServer, tmp_path: Path) -> None:
    server.keeps_connections = True
    fetches = registry(server, tmp_path)
    server.files[f"/v2/models/cap/blobs/sha256:{SHA256}"].cuts = []
    fetches.fetch(entry("oci://hub/models/cap:v4", CONTENT))
    assert len(server.requests) == 4
    assert server.connections == 1


def test_a_cookie_is_never_sent_back(server: FileServer, tmp_path: Path) -> None:
    server.files["/cap.onnx"] = Served(CONTENT, cuts=[1000], headers={"Set-Cookie": "who=me; Path=/"})
    Fetches(tmp_path).fetch(entry(server.url("/cap.onnx"), CONTENT))
    assert len(server.requests) == 2
    assert not any("cookie" in headers for _, headers in server.requests)


def test_an_issuer_of_tokens_elsewhere_gets_no_credentials(server: FileServer, tmp_path: Path) -> None:
    fetches = registry(server, tmp_path)
    manifest = server.files["/v2/models/cap/manifests/v4"]
    elsewhere = server.url("/token").replace("127.0.0.1", "localhost")
    manifest.headers = {"WWW-Authenticate": f'Bearer realm="{elsewhere}"'}
    with pytest.raises(ModelError) as refused:
        fetches.fetch(entry("oci://hub/models/cap:v4", CONTENT))
    assert refused.value.reason == "source_refused"
    asked = [headers for path, headers in server.requests if path.startswith("/token")]
    assert [headers.get("authorization") for headers in asked] == [None]


def test_a_model_of_mlflow_by_alias_and_by_version(server: FileServer, tmp_path: Path) -> None:
    fetches = Fetches(tmp_path, SupplyHost("tracking", endpoint=server.url("")))
    server.files[f"{API}/registered-models/alias"] = as_json({"model_version": {"version": "4"}})
    server.files[f"{API}/model-versions/get-download-uri"] = as_json({"artifact_uri": "mlflow-artifacts:/1/r/cap"})
    files = [{"path": "MLmodel", "is_dir": False}, {"path": "cap.onnx", "is_dir": False, "file_size": len(CONTENT)}]
    server.files[PROXY] = as_json({"files": files})
    server.files[f"{PROXY}/1/r/cap/cap.onnx"] = Served(CONTENT, cuts=[1000])
    fetches.fetch(entry("mlflow://tracking/cap@champion", CONTENT))
    fetches.require_only(CONTENT)
    assert server.requests[0][0].endswith("alias?name=cap&alias=champion")
    again = Fetches(tmp_path / "2", SupplyHost("tracking", endpoint=server.url("")))
    again.fetch(entry("mlflow://tracking/cap/4", CONTENT))
    again.require_only(CONTENT)


def test_an_mlflow_that_hides_its_artifacts_is_told(server: FileServer, tmp_path: Path) -> None:
    fetches = Fetches(tmp_path, SupplyHost("tracking", endpoint=server.url("")))
    server.files[f"{API}/model-versions/get-download-uri"] = as_json({"artifact_uri": "s3://bucket/1/r/cap"})
    with pytest.raises(ModelError, match="its artifacts are at s3://"):
        fetches.fetch(entry("mlflow://tracking/cap/4", CONTENT))
    server.files[f"{API}/model-versions/get-download-uri"] = as_json({"artifact_uri": "mlflow-artifacts:/1/r/cap"})
    server.files[PROXY] = as_json({"files": [{"path": "a.onnx"}, {"path": "b.onnx"}]})
    with pytest.raises(ModelError, match=r"found a\.onnx, b\.onnx, expected one file"):
        fetches.fetch(entry("mlflow://tracking/cap/4", CONTENT))


def test_an_object_of_a_bucket_is_asked_for_with_a_signature(server: FileServer, tmp_path: Path) -> None:
    for name in ("key", "secret"):
        (tmp_path / name).write_text(f"the-{name}")
    keys = {"access_key_file": str(tmp_path / "key"), "secret_key_file": str(tmp_path / "secret")}
    fetches = Fetches(tmp_path, SupplyHost(server.netloc, endpoint=server.url(""), region="eu-central-1", **keys))
    server.files["/models/caps/cap%204.onnx"] = Served(CONTENT, cuts=[1000])
    fetches.fetch(entry("s3://models/caps/cap%204.onnx", CONTENT))
    fetches.require_only(CONTENT)
    path, headers = server.requests[0]
    assert "X-Amz-Credential=the-key%2F" in path
    assert "eu-central-1" in path
    assert "X-Amz-Signature=" in path
    assert "the-secret" not in path
    assert "authorization" not in headers


def test_it_must_be_clear_whose_bucket_is_meant(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("key")
    keys = {"access_key_file": str(tmp_path / "key"), "secret_key_file": str(tmp_path / "key")}
    hosts = [SupplyHost(name, endpoint=server.url(""), **keys) for name in ("one", "two")]
    with pytest.raises(ModelError, match="several hosts have keys"):
        Fetches(tmp_path, *hosts).fetch(entry("s3://models/cap.onnx", CONTENT))
    server.files["/models/cap.onnx"] = Served(CONTENT)
    fetches = Fetches(tmp_path, *hosts, SupplyHost("models", endpoint=server.url(""), **keys))
    fetches.fetch(entry("s3://models/cap.onnx", CONTENT))
    fetches.require_only(CONTENT)


@pytest.mark.parametrize(
    "reference",
    [
        "gopher://host/cap.onnx",
        "oci://hub/Models/cap:v4",
        "oci://hub/models/cap",
        "mlflow://tracking/cap",
        "file://nas/cap.onnx",
        "https:///cap.onnx",
    ],
)
def test_a_reference_that_is_none_is_refused(fetches: Fetches, reference: str) -> None:
    with pytest.raises(ModelError) as refused:
        fetches.fetch(entry(reference, CONTENT))
    assert refused.value.reason in {"source_refused", "not_understood"}


def test_every_scheme_of_the_catalog_has_a_resolver() -> None:
    assert set(RESOLVERS) == {"", "file", *REMOTE}
