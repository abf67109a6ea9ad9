"""Files that ultralytics reads: safe, or refused; torch stays away until then."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agent.demo.assets import Assets
from agent.files import file_sha256
from agent.inference import backends
from agent.inference.backends import ModelError
from agent.messages.references import ModelVersion
from agent.models.preparation import Preparation, Request

VersionOf = Callable[..., ModelVersion]

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # torch and ultralytics warn of their own matters
    pytest.mark.timeout(600),  # torch on two busy cores
]


class Trap:
    """Unpickled by anybody who allows it, this leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path(self.path),)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    pytest.importorskip("agent.inference.backends.ultralytics")
    return tmp_path_factory.mktemp("cache")


@pytest.mark.torch
def test_a_pickle_that_runs_code_does_not_run(version: VersionOf, cache_dir: Path, tmp_path: Path) -> None:
    entry = version(tmp_path / "trap.pt", unsafe=True)
    module = pytest.importorskip("agent.inference.backends.ultralytics")
    torch, _ = module.import_ultralytics(cache_dir)
    torch.save({"model": Trap(tmp_path / "ran")}, tmp_path / "trap.pt")
    with pytest.raises(ModelError) as refused:
        backends.load(entry, "cpu", cache_dir)
    assert refused.value.reason == "load_failed"
    assert not (tmp_path / "ran").exists()


@pytest.mark.torch
@pytest.mark.parametrize("content", [b"", b"not a model", pickle.dumps({"model": 1})], ids=["empty", "text", "pickle"])
def test_a_file_that_is_no_model(version: VersionOf, cache_dir: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.pt"
    path.write_bytes(content)
    with pytest.raises(ModelError) as refused:
        backends.load(version(path, unsafe=True), "cpu", cache_dir)
    assert refused.value.reason == "load_failed"


@pytest.mark.torch
def test_a_truncated_model(version: VersionOf, cache_dir: Path, tmp_path: Path, walkway: Assets) -> None:
    path = tmp_path / "cut.pt"
    path.write_bytes(walkway.fall_pt.read_bytes()[:1_000_000])
    with pytest.raises(ModelError) as refused:
        backends.load(version(path, unsafe=True), "cpu", cache_dir)
    assert refused.value.reason == "load_failed"


@pytest.mark.torch
def test_the_catalogs_size_and_names_hold(version: VersionOf, cache_dir: Path, walkway: Assets) -> None:
    entry = version(walkway.fall_pt, imgsz=320, classes=("upright", "down"), unsafe=True)
    model = backends.load(entry, "cpu", cache_dir)
    assert (model.backend, model.imgsz, model.names) == ("ultralytics", (320, 320), ("upright", "down"))
    assert len(model.check_outputs(np.zeros((240, 320, 3), np.uint8))) == 0
    model.close()
    with pytest.raises(ModelError, match="must be a multiple of 32"):
        backends.load(version(walkway.fall_pt, imgsz=300, unsafe=True), "cpu", cache_dir)


@pytest.mark.torch
def test_a_device_that_is_not_there_is_refused(version: VersionOf, cache_dir: Path, walkway: Assets) -> None:
    with pytest.raises(ModelError) as refused:
        backends.load(version(walkway.fall_pt, unsafe=True), "cuda:63", cache_dir)
    assert refused.value.reason == "load_failed"


def in_a_process_of_its_own(code: str, *arguments: Path) -> str:
    command = [sys.executable, "-c", PRELUDE + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=500).stdout.strip()


PRELUDE = """
import sys
from pathlib import Path
from agent.inference import backends
from agent.messages.references import ModelVersion
def load(path, **fields):
    return backends.load(ModelVersion("m", "n", "1", path, "", unsafe=True, **fields), "cpu", Path(sys.argv[2]))
"""


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "cap.pt").write_bytes(pickle.dumps({"model": 1}))
    said = in_a_process_of_its_own(
        """
sys.modules["torch"] = None
try:
    load(sys.argv[1])
except backends.ModelError as error:
    print(error.reason, error)
""",
        tmp_path / "cap.pt",
        tmp_path,
    )
    assert said.startswith("load_failed a .pt or .engine file needs the extra: pip install 'changeover[ultralytics]'")


@pytest.mark.torch
def test_an_unsafe_import_before_ours_is_refused(cache_dir: Path, walkway: Assets) -> None:
    said = in_a_process_of_its_own(
        """
import os
os.environ["YOLO_CONFIG_DIR"] = sys.argv[2]
os.environ["YOLO_OFFLINE"] = "true"  # the test itself stays at home
os.environ.pop("ULTRALYTICS_SAFE_LOAD", None)
import ultralytics
try:
    load(sys.argv[1])
except backends.ModelError as error:
    print(error.reason, error)
""",
        walkway.fall_pt,
        cache_dir,
    )
    assert said.splitlines()[-1].startswith("load_failed ultralytics was imported without safe load")


WATCHED = """
import os
import numpy as np
def watch(event, arguments):
    installs = event in {"subprocess.Popen", "os.system"} and "pip" in str(arguments)
    if installs or event in {"socket.connect", "socket.getaddrinfo", "socket.sendto"}:
        os.write(1, f'{event} {arguments}'.encode())  # at once: it may be a forked child's
sys.addaudithook(watch)
model = load(sys.argv[1], backend=sys.argv[3])
model.check_outputs(np.zeros((64, 64, 3), np.uint8))
model.close()
"""


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", pytest.param("ultralytics", marks=pytest.mark.torch)])
def test_nothing_leaves_the_device(walkway: Assets, tmp_path: Path, backend: str) -> None:
    pytest.importorskip(f"agent.inference.backends.{backend}")
    path = walkway.fall_pt if backend == "ultralytics" else walkway.fall_onnx
    assert in_a_process_of_its_own(WATCHED, path, tmp_path, Path(backend)) == ""


@pytest.mark.torch
def test_a_prepared_checkpoint_is_served_without_torch(version: VersionOf, walkway: Assets, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    entry = version(walkway.fall_pt, sha256=file_sha256(walkway.fall_pt), imgsz=320)
    steps: list[str] = []
    outcome = Preparation(Request(entry, "cpu", str(tmp_path)), steps.append).run()
    assert outcome.result == "prepared", outcome
    assert "exported behind limits, files, calls" in steps
    said = in_a_process_of_its_own(
        """
import numpy as np
sys.modules["torch"] = None
model = backends.load(ModelVersion("m", "n", "1", sys.argv[1], sys.argv[3], imgsz=320), "cpu", Path(sys.argv[2]))
print(model.backend, model.names, model.imgsz, len(model.check_outputs(np.zeros((64, 64, 3), np.uint8))))
""",
        walkway.fall_pt,
        tmp_path,
        Path(entry.sha256),
    )
    assert said == "openvino ('Normal', 'Fall') (320, 320) 0"


@pytest.mark.torch
def test_a_hostile_checkpoint_is_refused_before_it_runs(version: VersionOf, tmp_path: Path) -> None:
    path = tmp_path / "trap.pt"
    path.write_bytes(pickle.dumps({"model": Trap(tmp_path / "ran")}))
    entry = version(path, sha256=file_sha256(path))
    outcome = Preparation(Request(entry, "cpu", str(tmp_path / "cache")), print).run()
    assert (outcome.result, outcome.reason) == ("failed", "load_failed")
    assert not (tmp_path / "ran").exists()
    assert list((tmp_path / "cache" / "prepared").iterdir()) == []
