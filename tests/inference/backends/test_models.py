"""Behaviour that all runtimes share, on tiny models with a known answer."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from agent.inference import backends
from agent.inference.backends import InferenceError, Model, ModelError
from agent.messages.references import ModelFile, ModelVersion

WriteTiny = Callable[..., Path]
VersionOf = Callable[..., ModelVersion]
Load = Callable[..., Model]

PICTURE: NDArray[np.uint8] = np.zeros((64, 64, 3), np.uint8)


@pytest.fixture(params=["openvino", "onnxruntime"])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    pytest.importorskip(f"agent.inference.backends.{name}")  # never the bare runtime: it would send usage events
    return name


@pytest.fixture
def load(backend: str, tiny_model: WriteTiny, version: VersionOf, tmp_path: Path) -> Iterator[Load]:
    """Write a tiny model with `options` and load it; `entry` holds fields of its catalog entry."""
    loaded: list[Model] = []

    def write_and_load(entry: dict[str, object] | None = None, **options: object) -> Model:
        path = tiny_model(tmp_path / "tiny.onnx", **options)
        loaded.append(backends.load(version(path, backend=backend, **(entry or {})), "auto", tmp_path))
        return loaded[-1]

    yield write_and_load
    for model in loaded:
        model.close()


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize("end2end", [False, True], ids=["anchors", "rows"])
def test_a_known_answer(load: Load, backend: str, *, half: bool, end2end: bool) -> None:
    model = load(half=half, end2end=end2end, boxes=[(8, 16, 40, 48, 0.75, 1), (8, 16, 40, 48, 0.5, 0)])
    objects = model.infer(PICTURE)
    np.testing.assert_allclose(objects.boxes, [[8, 16, 40, 48]] * 2, atol=1e-3)
    np.testing.assert_allclose(objects.scores, [0.75, 0.5], atol=1e-3)
    assert objects.classes.tolist() == [1, 0]
    assert (model.names, model.imgsz, model.backend) == (("cap", "no-cap"), (64, 64), backend)


def test_boxes_are_pixels_of_the_picture(load: Load) -> None:
    objects = load().infer(np.zeros((256, 512, 3), np.uint8))  # scaled by 1/8, 16 rows of padding above
    np.testing.assert_allclose(objects.boxes, [[64, 0, 320, 256]], atol=1e-3)


def test_the_camera_gets_its_buffer_back_before_the_answer(load: Load) -> None:
    model = load()
    first, second = model.prepare(PICTURE), model.prepare(np.zeros((128, 128, 3), np.uint8))
    np.testing.assert_allclose(model.answer(second).boxes, [[16, 32, 80, 96]], atol=1e-3)
    np.testing.assert_allclose(model.answer(first).boxes, [[8, 16, 40, 48]], atol=1e-3)


def test_many_threads_at_once_get_their_own_answers(load: Load) -> None:
    model = load()
    together = threading.Barrier(4)

    def answer(scale: int) -> list[list[float]]:
        together.wait(timeout=60)
        picture = np.zeros((64 * scale, 64 * scale, 3), np.uint8)
        return [(model.infer(picture).boxes[0] / scale).round(2).tolist() for _ in range(25)]

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(answer, range(1, 5)))
    assert answers == [[[8.0, 16.0, 40.0, 48.0]] * 25] * 4


def test_answers_are_the_callers_own(load: Load) -> None:
    model = load()
    first = model.infer(PICTURE)
    first.boxes.fill(0)
    np.testing.assert_allclose(model.infer(PICTURE).boxes, [[8, 16, 40, 48]], atol=1e-3)


def test_the_proof_finds_a_nan_that_no_candidate_shows(load: Load) -> None:
    model = load(nan=True)
    assert len(model.infer(PICTURE)) == 1
    with pytest.raises(ModelError, match="NaN or infinite") as refused:
        model.check_outputs(PICTURE)
    assert refused.value.reason == "proof_failed"


def test_the_proof_gives_the_answer_too(load: Load) -> None:
    assert load().check_outputs(PICTURE).scores.tolist() == pytest.approx([0.9])


@pytest.mark.parametrize("shape", [(1, 7, 84), (1, 6, 8, 8), (1, 1000)], ids=["classes", "map", "classifier"])
def test_a_wrong_shape_is_refused_at_the_load(load: Load, shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="the output is") as refused:
        load(shape=shape)
    assert refused.value.reason == "proof_failed"


def test_another_task_is_refused(load: Load) -> None:
    with pytest.raises(ModelError, match="a depth model; served are detect, segment, pose, obb, classify"):
        load(task="depth")


def test_the_catalogs_names_and_thresholds_hold(load: Load) -> None:
    model = load({"classes": ("good", "bad"), "confidence": 0.95})
    assert model.names == ("good", "bad")
    assert len(model.infer(PICTURE)) == 0


@pytest.mark.parametrize("end2end", [False, True], ids=["anchors", "rows"])
def test_a_file_that_leaves_its_sizes_open(load: Load, *, end2end: bool) -> None:
    model = load(dynamic=True, end2end=end2end)
    assert model.imgsz == (64, 64)
    np.testing.assert_allclose(model.infer(PICTURE).boxes, [[8, 16, 40, 48]], atol=1e-3)
    assert load({"imgsz": 32}, dynamic=True, end2end=end2end).imgsz == (32, 32)


def test_another_size_in_the_catalog_is_refused(load: Load) -> None:
    with pytest.raises(ModelError, match="the file takes 64 x 64"):
        load({"imgsz": 640})


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\x08\x08" * 500], ids=["empty", "text", "noise"])
def test_a_file_that_is_no_model(backend: str, version: VersionOf, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError) as refused:
        backends.load(version(path, backend=backend), "auto", tmp_path)
    assert refused.value.reason in {"load_failed", "proof_failed"}
    assert "tiny:n@1" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_truncated_model(backend: str, tiny_model: WriteTiny, version: VersionOf, tmp_path: Path) -> None:
    path = tiny_model(tmp_path / "tiny.onnx")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ModelError) as refused:
        backends.load(version(path, backend=backend), "auto", tmp_path)
    assert refused.value.reason == "load_failed"


def test_a_missing_file(backend: str, version: VersionOf, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no file") as refused:
        backends.load(version(tmp_path / "gone.onnx", backend=backend), "auto", tmp_path)
    assert refused.value.reason == "file_missing"


def test_a_closed_model_answers_no_more(load: Load) -> None:
    model = load()
    under_way = model.prepare(PICTURE)
    model.close()
    assert len(model.answer(under_way)) == 1
    with pytest.raises(InferenceError, match="is closed"):
        model.infer(PICTURE)


def test_weights_beside_a_file_are_read_only_where_the_entry_has_their_sha256(
    backend: str, tiny_model: WriteTiny, version: VersionOf, tmp_path: Path
) -> None:
    path = tiny_model(tmp_path / "tiny.onnx")
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="tiny.data", size_threshold=1024)
    with pytest.raises(ModelError, match=r"no sha256 of tiny\.data, which is read with tiny\.onnx"):
        backends.load(version(path, backend=backend), "auto", tmp_path)
    declared = (ModelFile("tiny.data", "0" * 64),)
    model = backends.load(version(path, backend=backend, files=declared), "auto", tmp_path)
    np.testing.assert_allclose(model.infer(PICTURE).boxes, [[8, 16, 40, 48]], atol=1e-3)
    model.close()


def odd_model(path: Path, node: onnx.NodeProto, opset: int = 17) -> Path:
    taken, given = (helper.make_tensor_value_info(name, 1, [1, 3, 64, 64]) for name in ("images", "output0"))
    graph = helper.make_graph([node], "g", [taken], [given])
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]).SerializeToString())
    return path


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (helper.make_node("Sorcery", ["images"], ["output0"]), "Sorcery"),
        (helper.make_node("Conv", ["images", "nothing"], ["output0"]), "'nothing', which nothing gives"),
        (helper.make_node("Reshape", ["images", "images"], ["output0"]), "cannot read it"),
    ],
)
def test_what_a_runtime_says_of_a_file_is_said_in_plain_words(
    backend: str, version: VersionOf, tmp_path: Path, node: onnx.NodeProto, words: str
) -> None:
    path = odd_model(tmp_path / "odd.onnx", node)
    with pytest.raises(ModelError) as refused:
        backends.load(version(path, backend=backend), "auto", tmp_path)
    assert words in str(refused.value)
    assert ".cpp" not in str(refused.value)
    assert "ONNXRuntimeError" not in str(refused.value)
