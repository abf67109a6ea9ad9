"""Every kind of source against its real server: fetched over cuts, verified, in the store, and able to infer.

`scripts/partners` brings the servers; `scripts/test -m partners` runs this.
"""

import hashlib
import json
import random
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from minio import Minio
from support.certificates import Authority
from support.cutting_proxy import cutting_proxy
from support.fetches import Fetches, content_of, entry
from support.partners import (
    FOLDER,
    docker_registry,
    in_mlflow,
    is_here,
    mlflow_server,
    moto_server,
    nginx,
    slow_mount,
)
from support.tiny_models import write_tiny_model

from agent.messages.errors import ModelError
from agent.messages.short_lived.supply import FollowAliases, Followed, SupplyHost
from agent.models.catalog import Catalog
from agent.models.file_faults import require_sound, verify
from agent.supply.errors import SourceError
from agent.supply.following import follow
from agent.supply.transfer.pace import Pace

pytestmark = [pytest.mark.partners, pytest.mark.timeout(300)]
PATIENT = Pace(stall_s=20.0, backoff_s=0.2)
LARGE_BYTES = 6_000_000


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "served"
    folder.mkdir()
    return write_tiny_model(folder / "cap.onnx")


@pytest.fixture
def large(model: Path) -> Path:
    path = model.with_name("large.onnx")
    path.write_bytes(content_of(LARGE_BYTES))
    return path


def require_resumed(
    netloc: str, large: Path, fetches_of: Callable[[str], Fetches], reference_of: Callable[[str], str]
) -> None:
    """Hold that twenty cuts at random places cost less than two hundredths of the file's size."""
    chance = random.Random(20)
    with cutting_proxy(netloc, chance.sample(range(LARGE_BYTES // 50, LARGE_BYTES), 20)) as proxy:
        fetches = fetches_of(proxy.netloc)
        fetches.fetch(entry(reference_of(proxy.netloc), large.read_bytes()))
        fetches.require_only(large.read_bytes())
        assert proxy.is_done
        share = proxy.bytes / LARGE_BYTES
        sys.stderr.write(f"bytes over the size after 20 cuts: {share:.4f}\n")
        assert share <= 1.02


def require_served(fetches: Fetches, found: dict[str, str], model: Path) -> None:
    """Hold that what was fetched is the model, sound, and infers."""
    path = Path(found["file"])
    assert path.read_bytes() == model.read_bytes()
    rows = "\n".join(f"{key} = {json.dumps(value)}" for key, value in found.items())
    (fetches.folder / "models.toml").write_text(f"[[model]]\n{rows}\n")
    [version] = Catalog.read(fetches.folder / "models.toml").versions
    verify(version)
    require_sound(version)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [given] = session.get_inputs()
    [answer] = session.run(None, {given.name: np.zeros((1, 3, 64, 64), np.float32)})
    assert answer.shape[0] == 1
    assert fetches.leftovers() == []


@pytest.mark.skipif(not is_here("nginx"), reason="needs scripts/partners")
def test_nginx(model: Path, large: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    key, certificate = authority.issue("nginx")
    with nginx(model.parent, (certificate, key)) as netloc:
        fetches = Fetches(tmp_path, SupplyHost(netloc, ca_file=str(authority.certificate)), pace=PATIENT)
        [found] = fetches.fetch(entry(f"https://{netloc}/cap.onnx", model.read_bytes()))
        require_served(fetches, found, model)
        distrusting = Fetches(tmp_path / "other", pace=Pace(fruitless=1))
        with pytest.raises(ModelError, match="ca_file"):
            distrusting.fetch(entry(f"https://{netloc}/cap.onnx", model.read_bytes()))
    with nginx(model.parent) as netloc:
        require_resumed(
            netloc, large, lambda _cut: Fetches(tmp_path / "cut", pace=PATIENT), lambda cut: f"http://{cut}/large.onnx"
        )


@pytest.mark.skipif(not is_here("moto_server"), reason="needs scripts/partners")
def test_s3(model: Path, large: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("AKIAEXAMPLE")
    (tmp_path / "secret").write_text("secret")
    with moto_server(tmp_path) as netloc:
        client = Minio(endpoint=netloc, access_key="AKIAEXAMPLE", secret_key="secret", secure=False, region="us-east-1")
        client.make_bucket(bucket_name="plant")
        for path in (model, large):
            client.fput_object(bucket_name="plant", object_name=f"caps/{path.name}", file_path=str(path))
        keys = {"access_key_file": str(tmp_path / "key"), "secret_key_file": str(tmp_path / "secret")}
        fetches = Fetches(tmp_path, SupplyHost(netloc, endpoint=f"http://{netloc}", **keys), pace=PATIENT)
        [found] = fetches.fetch(entry("s3://plant/caps/cap.onnx", model.read_bytes()))
        require_served(fetches, found, model)
        with pytest.raises(ModelError) as refused:
            fetches.fetch(entry("s3://plant/caps/other.onnx", b"x"))
        assert refused.value.reason == "not_found"

        def over(cut: str) -> Fetches:
            return Fetches(tmp_path / "cut", SupplyHost(cut, endpoint=f"http://{cut}", **keys), pace=PATIENT)

        require_resumed(netloc, large, over, lambda _cut: "s3://plant/caps/large.onnx")


@pytest.mark.skipif(not is_here("docker-registry"), reason="needs scripts/partners")
def test_docker_registry(model: Path, large: Path, tmp_path: Path) -> None:
    with docker_registry(tmp_path) as netloc:
        digest = _push(netloc, "models/cap", "v4", model)
        fetches = Fetches(tmp_path, SupplyHost(netloc, endpoint=f"http://{netloc}"), pace=PATIENT)
        [found] = fetches.fetch(entry(f"oci://{netloc}/models/cap:v4", model.read_bytes()))
        require_served(fetches, found, model)
        fetches = Fetches(tmp_path / "by-digest", SupplyHost(netloc, endpoint=f"http://{netloc}"), pace=PATIENT)
        fetches.fetch(entry(f"oci://{netloc}/models/cap@{digest}", model.read_bytes()))
        with pytest.raises(ModelError) as refused:
            fetches.fetch(entry(f"oci://{netloc}/models/cap:v5", b"x"))
        assert refused.value.reason == "not_found"
        _push(netloc, "models/large", "v1", large)

        def over(cut: str) -> Fetches:
            return Fetches(tmp_path / "cut", SupplyHost("hub", endpoint=f"http://{cut}"), pace=PATIENT)

        require_resumed(netloc, large, over, lambda _cut: "oci://hub/models/large:v1")


def _push(netloc: str, repository: str, tag: str, model: Path) -> str:
    """Push a model as `oras push` does; return the manifest's digest."""
    base = f"http://{netloc}/v2/{repository}"
    layers = []
    for content, title in ((b"{}", ""), (model.read_bytes(), model.name)):
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        begun = urllib.request.Request(f"{base}/blobs/uploads/", data=b"", method="POST")
        with urllib.request.urlopen(begun, timeout=60) as answer:
            place = answer.headers["Location"]
        put = urllib.request.Request(f"{place}&digest={digest}", data=content, method="PUT")
        put.add_header("Content-Type", "application/octet-stream")
        urllib.request.urlopen(put, timeout=60).close()
        layers.append({"mediaType": "application/octet-stream", "digest": digest, "size": len(content)})
        if title:
            layers[-1]["annotations"] = {"org.opencontainers.image.title": title}
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": layers[0], "layers": layers[1:]}).encode()
    put = urllib.request.Request(f"{base}/manifests/{tag}", data=manifest, method="PUT")
    put.add_header("Content-Type", kind)
    with urllib.request.urlopen(put, timeout=60) as answer:
        return str(answer.headers["Docker-Content-Digest"])


_REGISTER = """
import sys
import mlflow
from mlflow import MlflowClient

mlflow.set_tracking_uri(sys.argv[1])
with mlflow.start_run() as run:
    mlflow.log_artifact(sys.argv[3], "model")
client = MlflowClient()
client.create_registered_model(sys.argv[2])
client.create_model_version(sys.argv[2], f"{run.info.artifact_uri}/model", run.info.run_id)
client.set_registered_model_alias(sys.argv[2], "champion", "1")
"""


@pytest.mark.skipif(not is_here("mlflow"), reason="needs scripts/partners")
def test_mlflow(model: Path, large: Path, tmp_path: Path) -> None:
    with mlflow_server(tmp_path) as netloc:
        for name, file in (("cap", model), ("large", large)):
            in_mlflow(_REGISTER, f"http://{netloc}", name, str(file), folder=tmp_path)
        fetches = Fetches(tmp_path, SupplyHost(netloc, endpoint=f"http://{netloc}"), pace=PATIENT)
        [found] = fetches.fetch(entry(f"mlflow://{netloc}/cap@champion", model.read_bytes()))
        require_served(fetches, found, model)
        other = Fetches(tmp_path / "by-version", SupplyHost(netloc, endpoint=f"http://{netloc}"), pace=PATIENT)
        other.fetch(entry(f"mlflow://{netloc}/cap/1", model.read_bytes()))
        with pytest.raises(ModelError) as refused:
            fetches.fetch(entry(f"mlflow://{netloc}/cap@none", b"x"))
        assert refused.value.reason == "not_found"

        def over(cut: str) -> Fetches:
            return Fetches(tmp_path / "cut", SupplyHost("tracking", endpoint=f"http://{cut}"), pace=PATIENT)

        require_resumed(netloc, large, over, lambda _cut: "mlflow://tracking/large@champion")


_CANDIDATE = """
import sys
from mlflow import MlflowClient

client = MlflowClient(sys.argv[1])
client.set_model_version_tag(sys.argv[2], "1", "sha256", sys.argv[3])
client.set_registered_model_alias(sys.argv[2], "candidate", "1")
"""
_TAG = ("1", "changeover.box-7.line-1", '{"result":"promoted"}')


@pytest.mark.skipif(not is_here("mlflow"), reason="needs scripts/partners")
def test_an_alias_of_mlflow_that_is_followed(model: Path, tmp_path: Path) -> None:
    with mlflow_server(tmp_path) as netloc:
        server = f"http://{netloc}"
        in_mlflow(_REGISTER, server, "cap", str(model), folder=tmp_path)
        fetches = Fetches(tmp_path / "box", SupplyHost(netloc, endpoint=server), pace=PATIENT)
        fetches.folder.mkdir()
        asked = FollowAliases("job-1", (Followed(f"mlflow://{netloc}/cap@candidate", "n", (_TAG,)),), (), 60.0)
        assert follow(fetches.setup, asked, fetches.job()).found == ()
        in_mlflow(_CANDIDATE, server, "cap", hashlib.sha256(model.read_bytes()).hexdigest(), folder=tmp_path)
        answer = follow(fetches.setup, asked, fetches.job())
        assert [reference for _, _, reference in answer.found] == ["cap:n@1"]
        require_served(fetches, json.loads(answer.entries[0]), model)
        url = f"{server}/api/2.0/mlflow/model-versions/get?name=cap&version=1"
        with urllib.request.urlopen(url, timeout=60) as told:
            tags = {tag["key"]: tag["value"] for tag in json.load(told)["model_version"]["tags"]}
        assert tags[_TAG[1]] == _TAG[2]


@pytest.mark.skipif(not (FOLDER / "fuse").is_dir(), reason="needs scripts/partners")
def test_a_slow_mount(model: Path, tmp_path: Path) -> None:
    with slow_mount(model, tmp_path / "nas", pause_s=0.05) as place:
        fetches = Fetches(tmp_path, pace=PATIENT)
        [found] = fetches.fetch(entry(str(place), model.read_bytes()))
        require_served(fetches, found, model)


@pytest.mark.skipif(not (FOLDER / "fuse").is_dir(), reason="needs scripts/partners")
def test_a_mount_that_hangs(tmp_path: Path) -> None:
    big = tmp_path / "served" / "big.onnx"
    big.parent.mkdir()
    big.write_bytes(content_of(2_000_000))
    with slow_mount(big, tmp_path / "nas", pause_s=0.0, hang_after=1_000_000) as place:
        fetches = Fetches(tmp_path, pace=Pace(stall_s=1.0, fruitless=2, backoff_s=0.1))
        with pytest.raises(SourceError) as refused:
            fetches.fetch(entry(str(place), big.read_bytes()))
        assert refused.value.reason == "source_hung"
    fetches.fetch(entry(str(big), big.read_bytes()))
    fetches.require_only(big.read_bytes())
