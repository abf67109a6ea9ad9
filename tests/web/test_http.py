"""The Open Inference Protocol v2 over HTTP, of a running agent."""

import gzip
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from support.gateway_plant import GatewayPlant, jpeg

HEADER = "Inference-Header-Content-Length"
PICTURE = {"name": "image", "shape": [96, 128, 3], "datatype": "UINT8"}
AFFINE = {
    "inputs": [
        {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]},
        {"name": "k", "shape": [4], "datatype": "INT64", "data": [10, 20, 30, 40]},
    ]
}
TEXT = json.dumps(AFFINE).encode()


def test_health_and_metadata(plant: GatewayPlant) -> None:
    with plant.client() as client:
        assert client.get("/v2/health/live").json() == {"live": True}
        assert client.get("/v2/health/ready").json() == {"ready": True}
        assert client.get("/v2").json()["name"] == "changeover"
        assert client.get("/v2/models/alpha/ready").status_code == 200
        alpha = client.get("/v2/models/alpha").json()
        affine = client.get("/v2/models/affine/versions/1").json()
    assert (alpha["name"], alpha["versions"]) == ("alpha", ["1"])
    assert alpha["parameters"]["labels"] == ["a-good", "a-bad"]
    assert [port["name"] for port in alpha["outputs"]] == ["boxes", "scores", "classes", "labels"]
    assert affine["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": [1, 4]},
        {"name": "k", "datatype": "INT64", "shape": [4]},
    ]
    assert affine["platform"].startswith("openvino")


@pytest.mark.parametrize("kind", [".jpg", ".png", ".webp"])
def test_a_picture_in_and_json_out(plant: GatewayPlant, kind: str) -> None:
    with plant.client() as client:
        answer = client.post("/v2/models/alpha/detect", content=jpeg(256, 192, kind))
    assert answer.status_code == 200
    found = answer.json()
    assert (found["model"], found["width"], found["height"]) == ("alpha:n@1", 256, 192)
    assert [one["label"] for one in found["objects"]] == ["a-good"]
    # 64 pixels of the input are 256 of the picture, letterboxed by 8 above
    assert found["objects"][0]["box"] == [32.0, 32.0, 160.0, 160.0]
    assert found["latency_ms"] > 0


def test_thresholds_of_a_request_hold_for_it_alone(plant: GatewayPlant) -> None:
    with plant.client() as client:
        strict = client.post("/v2/models/alpha/detect?confidence=0.95", content=jpeg()).json()
        usual = client.post("/v2/models/alpha/detect", content=jpeg()).json()
    assert (len(strict["objects"]), len(usual["objects"])) == (0, 1)


@pytest.mark.parametrize(
    ("query", "word"),
    [("confidence=2", "confidence"), ("iou=x", "iou"), ("imgsz=640", "imgsz"), ("confidence=nan", "confidence")],
)
def test_a_wrong_parameter_is_named(plant: GatewayPlant, query: str, word: str) -> None:
    with plant.client() as client:
        answer = client.post(f"/v2/models/alpha/detect?{query}", content=jpeg())
    assert answer.status_code == 400
    assert word in answer.json()["error"]


def test_a_detector_gives_its_objects_as_tensors(plant: GatewayPlant) -> None:
    pixels = np.full((96, 128, 3), 90, np.uint8)
    with plant.client() as client:
        body = {"id": "7", "inputs": [{**PICTURE, "data": pixels.ravel().tolist()}]}
        answer = client.post("/v2/models/alpha:n/versions/1/infer", json=body).json()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("7", "alpha:n", "1")
    outputs = {one["name"]: one for one in answer["outputs"]}
    assert outputs["boxes"]["data"] == [16.0, 16.0, 80.0, 80.0]
    assert outputs["boxes"]["shape"] == [1, 4]
    assert outputs["classes"]["data"] == [0]
    assert outputs["labels"]["data"] == ["a-good"]


def test_tensors_as_json_and_as_binary_data(plant: GatewayPlant) -> None:
    x, k = np.array([[1, 2, 3, 4]], np.float32), np.array([10, 20, 30, 40], np.int64)
    head = json.dumps(
        {
            "inputs": [
                {"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": x.nbytes}},
                {"name": "k", "shape": [4], "datatype": "INT64", "parameters": {"binary_data_size": k.nbytes}},
            ],
            "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
        }
    ).encode()
    with plant.client() as client:
        plain = client.post("/v2/models/affine/infer", json=AFFINE).json()
        raw = client.post(
            "/v2/models/affine/infer", content=head + x.tobytes() + k.tobytes(), headers={HEADER: str(len(head))}
        )
    assert {one["name"]: one["data"] for one in plain["outputs"]} == {"y": [12, 24, 36, 48], "kk": [20, 40, 60, 80]}
    size = int(raw.headers[HEADER])
    assert [one["name"] for one in json.loads(raw.content[:size])["outputs"]] == ["y"]
    assert np.frombuffer(raw.content[size:], np.float32).tolist() == [12, 24, 36, 48]


def test_outputs_are_binary_data_as_the_request_says_unless_one_says_otherwise(plant: GatewayPlant) -> None:
    outputs = [{"name": "y"}, {"name": "kk", "parameters": {"binary_data": False}}]
    body = {**AFFINE, "parameters": {"binary_data_output": True}, "outputs": outputs}
    with plant.client() as client:
        answer = client.post("/v2/models/affine/infer", json=body)
    size = int(answer.headers[HEADER])
    y, kk = json.loads(answer.content[:size])["outputs"]
    assert (y["parameters"], "data" in y) == ({"binary_data_size": 16}, False)
    assert kk["data"] == [20, 40, 60, 80]
    assert np.frombuffer(answer.content[size:], np.float32).tolist() == [12, 24, 36, 48]


def test_what_a_client_leaves_out_may_be_null(plant: GatewayPlant) -> None:
    inputs = [{**one, "parameters": None} for one in AFFINE["inputs"]]
    body = {"id": None, "parameters": None, "inputs": inputs, "outputs": None}
    with plant.client() as client:
        answer = client.post("/v2/models/affine/infer", json=body)
        named = client.post("/v2/models/affine/infer", json={**body, "outputs": [{"name": "y", "parameters": None}]})
    assert (answer.status_code, "id" in answer.json(), len(answer.json()["outputs"])) == (200, False, 2), answer.text
    assert [one["name"] for one in named.json()["outputs"]] == ["y"]


def test_a_model_of_an_open_length(plant: GatewayPlant) -> None:
    body = {"inputs": [{"name": "tokens", "shape": [1, 3], "datatype": "INT64", "data": [[1, 2, 6]]}]}
    with plant.client() as client:
        answer = client.post("/v2/models/encoder/infer", json=body)
    assert answer.json()["outputs"][0]["data"] == [3.0]


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"inputs": []}, "missing"),
        ({"inputs": "x"}, "inputs"),
        ({"inputs": [{"name": "x"}]}, "shape"),
        ({"inputs": [{**AFFINE["inputs"][0], "datatype": "FP64"}, AFFINE["inputs"][1]]}, "'x'"),
        ({"inputs": [{**AFFINE["inputs"][0], "shape": [1, 5]}, AFFINE["inputs"][1]]}, "'x'"),
        ({"inputs": [{**AFFINE["inputs"][0], "shape": [1, -4]}, AFFINE["inputs"][1]]}, "'x'"),
        ({"inputs": [{**AFFINE["inputs"][0], "data": [1, [2], 3, 4]}, AFFINE["inputs"][1]]}, "'x'"),
        ({"inputs": [{**AFFINE["inputs"][1], "data": [1.5, 2, 3, 4]}, AFFINE["inputs"][0]]}, "'k'"),
        ({"inputs": [{**AFFINE["inputs"][1], "data": [2**70, 2, 3, 4]}, AFFINE["inputs"][0]]}, "'k'"),
        ({"inputs": [*AFFINE["inputs"], AFFINE["inputs"][0]]}, "twice"),
        ({**AFFINE, "outputs": [{"name": "z"}]}, "'z'"),
        ({**AFFINE, "parameters": {"confidence": 0.5}}, "confidence"),
        ({**AFFINE, "parameters": {"imgsz": 64}}, "imgsz"),
        ({**AFFINE, "parameters": {"binary_data_output": "yes"}}, "binary_data_output"),
        ({**AFFINE, "outputs": [{"name": "y", "parameters": {"binary_data": 1}}]}, "'y'"),
        ({**AFFINE, "outputs": [{"name": "y", "parameters": {"classification": 2}}]}, "classification"),
    ],
)
def test_what_is_wrong_is_named(plant: GatewayPlant, changed: dict[str, object], word: str) -> None:
    with plant.client() as client:
        answer = client.post("/v2/models/affine/infer", json=changed)
    assert answer.status_code == 400, answer.text
    assert word in answer.json()["error"]


def test_compressed_bodies_are_read_and_bounded(plant: GatewayPlant) -> None:
    text = json.dumps(AFFINE).encode()
    bomb = gzip.compress(b" " * (40 << 20))
    with plant.client() as client:
        for coding, content in (("gzip", gzip.compress(text)), ("deflate", zlib.compress(text))):
            answer = client.post("/v2/models/affine/infer", content=content, headers={"Content-Encoding": coding})
            assert answer.status_code == 200, answer.text
        answers = [
            client.post("/v2/models/affine/infer", content=content, headers={"Content-Encoding": coding}).status_code
            for coding, content in (("gzip", bomb), ("gzip", text), ("gzip", gzip.compress(text)[:-9]), ("br", text))
        ]
    assert answers == [413, 400, 400, 415]


@pytest.mark.parametrize(
    ("coding", "content", "status"),
    [
        ("gzip", gzip.compress(TEXT[:9]) + gzip.compress(TEXT[9:]), 200),
        ("gzip", gzip.compress(TEXT) + b"more", 400),
        ("gzip", gzip.compress(TEXT) + gzip.compress(b"more"), 400),
        ("deflate", zlib.compress(TEXT) + b"more", 400),
        ("gzip", gzip.compress(b" " * (20 << 20)) * 2, 413),
        ("gzip", gzip.compress(b"") * 2000 + gzip.compress(TEXT), 400),
    ],
)
def test_what_stands_behind_a_compressed_body_is_read_or_refused(
    plant: GatewayPlant, coding: str, content: bytes, status: int
) -> None:
    with plant.client() as client:
        answer = client.post("/v2/models/affine/infer", content=content, headers={"Content-Encoding": coding})
    assert answer.status_code == status, answer.text


def test_sizes_media_and_paths(plant: GatewayPlant) -> None:
    with plant.client() as client:
        assert client.post("/v2/models/alpha/detect", content=b"x" * (33 << 20)).status_code == 413
        assert client.post("/v2/models/alpha/detect", content=b"GIF89a").status_code == 415
        for media in ("image/jpg", "image/pjpeg"):
            answer = client.post("/v2/models/alpha/detect", content=jpeg(), headers={"Content-Type": media})
            assert answer.status_code == 200, media
        gif = client.post("/v2/models/alpha/detect", content=jpeg(), headers={"Content-Type": "image/gif"})
        assert gif.status_code == 415
        assert client.post("/v2/models/alpha/detect", content=jpeg()[:300]).status_code == 400
        assert client.post("/v2/models/affine/detect", content=jpeg()).status_code == 400
        for path in (
            "nothing",
            "models/none",
            "models/alpha/versions/2",
            "models/alpha:x",
            "models/alpha:",
            "models/..%2f..%2fetc",
        ):
            assert client.get(f"/v2/{path}").status_code == 404, path
        wrong = client.put("/v2/models/alpha/infer")
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")


def test_a_large_picture_is_answered_in_its_own_pixels(plant: GatewayPlant) -> None:
    with plant.client() as client:
        found = client.post("/v2/models/alpha/detect", content=jpeg(4800, 3600)).json()
    assert (found["width"], found["height"]) == (4800, 3600)
    box = found["objects"][0]["box"]
    assert box == pytest.approx([600, 600, 3000, 3000], abs=4)


def test_pictures_and_numbers_bring_in_neither_opencv_nor_numpy(plant: GatewayPlant) -> None:
    with plant.client() as client:
        assert client.post("/v2/models/alpha/detect", content=jpeg()).status_code == 200
        assert client.post("/v2/models/affine/infer", json=AFFINE).status_code == 200
    process = plant.agent.child("agent.web.web_process")
    loaded = {Path(one.path).name.partition(".")[0] for one in process.memory_maps()}
    assert "_imaging" in loaded
    assert loaded.isdisjoint({"cv2", "_multiarray_umath"})


def test_models_are_loaded_and_unloaded_on_the_one_ledger(plant: GatewayPlant) -> None:
    with plant.client() as client:
        assert client.post("/v2/repository/models/gamma/load").status_code == 200
        assert client.get("/v2/models/gamma/ready").status_code == 200
        index = {row["name"]: row["state"] for row in client.post("/v2/repository/index").json()}
        assert index["gamma:n"] == "READY"
        assert "gamma:n@1" in _in_memory(plant)
        assert client.post("/v2/repository/models/gamma/unload").status_code == 200
        assert client.get("/v2/models/gamma/ready").status_code == 503
        assert "gamma:n@1" not in _in_memory(plant)
        kept = client.post("/v2/repository/models/alpha/unload")
        assert kept.status_code == 400
        assert "line-1" in kept.json()["error"]
        assert client.post("/v2/repository/models/gamma/load", json={"parameters": {"config": "{}"}}).status_code == 501


def _in_memory(plant: GatewayPlant) -> list[str]:
    """Return the models that the device says are in memory."""
    cache = json.loads(plant.agent.retained("cache") or "{}")
    return [one["model"] for one in cache["models"]]


def test_a_load_with_empty_parameters_is_a_load(plant: GatewayPlant) -> None:
    with plant.client() as client:
        for content in (b'{"parameters":null}', b'{"parameters":{}}', b""):
            assert client.post("/v2/repository/models/affine/load", content=content).status_code == 200


def test_a_header_of_many_digits_is_the_clients_mistake(plant: GatewayPlant) -> None:
    with plant.client() as client:
        headers = {"Inference-Header-Content-Length": "9" * 5000}
        assert client.post("/v2/models/affine/infer", content=b"{}", headers=headers).status_code == 400


def test_shared_memory_of_a_client_is_not_served(plant: GatewayPlant) -> None:
    region = {"parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 16}}
    with plant.client() as client:
        for changed in ({"outputs": [{"name": "y", **region}]}, {"inputs": [{**AFFINE["inputs"][0], **region}]}):
            answer = client.post("/v2/models/affine/infer", json={**AFFINE, **changed})
            assert (answer.status_code, "shared memory" in answer.json()["error"]) == (501, True)
