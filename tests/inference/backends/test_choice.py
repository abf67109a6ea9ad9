"""Choice of the runtime by file and device, and the cost of its import."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.inference import backends
from agent.inference.backends import ModelError
from agent.messages.references import ModelVersion

WriteTiny = Callable[..., Path]
VersionOf = Callable[..., ModelVersion]


@pytest.mark.parametrize(
    ("file", "compute", "expected"),
    [
        ("cap.onnx", "auto", "openvino"),
        ("cap.xml", "cpu", "openvino"),
        ("cap.ONNX", "cuda:0", "onnxruntime"),
        ("cap.onnx", "tensorrt:0", "openvino"),  # until its engine is built
        ("cap.xml", "cuda:0", "openvino"),
        ("cap.pt", "auto", "ultralytics"),
        ("cap.engine", "cuda:0", "ultralytics"),
    ],
)
def test_a_file_finds_its_backend(version: VersionOf, file: str, compute: str, expected: str) -> None:
    assert backends.backend_of(version(Path(file)), compute) == expected


def test_a_graph_changes_its_backend_once_its_engine_is_built(version: VersionOf) -> None:
    assert backends.backend_of(version(Path("cap.onnx")), "tensorrt:0", is_prepared=True) == "tensorrt"


def test_the_catalogs_choice_comes_first(version: VersionOf) -> None:
    assert backends.backend_of(version(Path("cap.onnx"), backend="ultralytics")) == "ultralytics"


@pytest.mark.parametrize(
    ("backend", "compute", "expected"),
    [
        ("auto", "cpu", "openvino"),
        ("onnxruntime", "cpu", "onnxruntime"),
        ("ultralytics", "cpu", None),
        ("auto", "cuda:0", "onnxruntime"),
    ],
)
def test_a_checkpoint_changes_its_backend_once_it_is_prepared(
    version: VersionOf, backend: str, compute: str, expected: str | None
) -> None:
    entry = version(Path("cap.pt"), sha256="00", backend=backend)
    assert backends.backend_of(entry, compute) == "ultralytics"
    assert backends.backend_of(entry, compute, is_prepared=True) == (expected or "ultralytics")
    assert (backends.artifact_key(entry, compute) is None) == (expected is None)


def test_an_unknown_backend_is_refused(version: VersionOf, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no backend 'paddle'; there are openvino"):
        backends.load(version(tmp_path / "cap.onnx", backend="paddle"), "auto", tmp_path)


def test_a_backend_that_is_not_installed_names_its_extra(
    tiny_model: WriteTiny, version: VersionOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "agent.inference.backends.onnxruntime", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    entry = version(tiny_model(tmp_path / "tiny.onnx"), backend="onnxruntime")
    with pytest.raises(ModelError, match=r"pip install 'changeover\[onnxruntime\]'") as refused:
        backends.load(entry, "auto", tmp_path)
    assert refused.value.reason == "load_failed"


IMPORTS = """
import sys
from pathlib import Path
from agent.inference import backends
heavy = ("torch", "ultralytics", "openvino", "onnxruntime", "onnx")
print(sorted(name for name in heavy if name in sys.modules))
from agent.messages.references import ModelVersion
backends.load(ModelVersion("tiny", "n", "1", sys.argv[1], "", backend=sys.argv[2]), "auto", Path(sys.argv[3])).close()
print(sorted(name for name in heavy if name in sys.modules))
print(sys.modules.get("openvino_telemetry"))
"""


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_runtime_is_imported_by_the_first_load_alone(tiny_model: WriteTiny, tmp_path: Path, backend: str) -> None:
    pytest.importorskip(f"agent.inference.backends.{backend}")
    path = tiny_model(tmp_path / "tiny.onnx")
    command = [sys.executable, "-W", "error", "-c", IMPORTS, str(path), backend, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines() == ["[]", f"['{backend}']", "None"]
    assert done.stderr == ""


def test_an_ultralytics_ir_names_its_classes_in_its_sidecar(
    tiny_model: WriteTiny, version: VersionOf, tmp_path: Path
) -> None:
    ov = pytest.importorskip("agent.inference.backends.openvino").ov
    ir = tmp_path / "tiny.xml"
    ov.save_model(ov.Core().read_model(tiny_model(tmp_path / "tiny.onnx", metadata=False)), ir)
    (tmp_path / "metadata.yaml").write_text("task: detect\nimgsz:\n- 64\n- 64\nnames:\n  0: round cap\n  1: no cap\n")
    model = backends.load(version(ir), "auto", tmp_path)
    assert model.names == ("round cap", "no cap")
    model.close()


def test_an_ir_made_from_onnx_keeps_its_names(tiny_model: WriteTiny, version: VersionOf, tmp_path: Path) -> None:
    ov = pytest.importorskip("agent.inference.backends.openvino").ov
    ir = tmp_path / "tiny.xml"
    ov.save_model(ov.Core().read_model(tiny_model(tmp_path / "tiny.onnx")), ir)
    model = backends.load(version(ir), "auto", tmp_path)
    assert model.names == ("cap", "no-cap")
    model.close()


def test_an_ir_with_labels_alone_is_named_by_them(tiny_model: WriteTiny, version: VersionOf, tmp_path: Path) -> None:
    ov = pytest.importorskip("agent.inference.backends.openvino").ov
    network = ov.Core().read_model(tiny_model(tmp_path / "tiny.onnx", metadata=False))
    network.set_rt_info(["cap", "no-cap"], ["model_info", "labels"])
    ov.save_model(network, tmp_path / "tiny.xml")
    model = backends.load(version(tmp_path / "tiny.xml"), "auto", tmp_path)
    assert model.names == ("cap", "no-cap")
    model.close()
