"""A GPU that is named serves or is refused, with a word for what is missing; `auto` falls back and says why.

ONNX Runtime's CUDA provider is a stand-in that computes on the CPU, so that answers are real.
"""

import importlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.gpu_hosts import CUDA_12, CUDA_13, Driver, cpu_wheel, gpu_wheel, host

from agent.files import file_sha256
from agent.inference import backends
from agent.inference.artifacts.artifact_store import ArtifactStore
from agent.inference.backends import FellBackError, ModelError, choice
from agent.inference.backends.errors import ProcessorError
from agent.inference.preparing import background_builder, build_process, checkpoint
from agent.inference.preparing.background_builder import BackgroundBuilder
from agent.inference.processors import compute
from agent.inference.processors.host import Host
from agent.messages.references import ModelVersion
from agent.models.preparation import Outcome, Request

WriteTiny = Callable[..., Path]
VersionOf = Callable[..., ModelVersion]
Cuda = Callable[..., list[dict[str, Any]]]
onnxruntime = pytest.importorskip("agent.inference.backends.onnxruntime")


@pytest.fixture(autouse=True)
def _nothing_was_tried(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(choice, "_fell_back", {})
    onnxruntime._start_cuda.cache_clear()
    yield
    onnxruntime._start_cuda.cache_clear()


@pytest.fixture
def gpu_box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Stand in for a device on which nothing is missing, as far as can be seen without starting it."""
    here = host(Driver(cards=2), CUDA_12, gpu_wheel(tmp_path / "packages"))
    monkeypatch.setattr(compute, "host", here)
    return here


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    """Stand in for the CUDA provider; `raises` is its error, `is_silent` a session that it leaves to the CPU."""
    ort = onnxruntime.ort
    real = ort.InferenceSession

    def stand_in(raises: str = "", *, is_silent: bool = False) -> list[dict[str, Any]]:
        started: list[dict[str, Any]] = []

        class Session:
            def __init__(self, path: object, options: Any, providers: list[Any], **rest: object) -> None:  # noqa: ANN401
                name, said = providers[0] if isinstance(providers[0], tuple) else (providers[0], {})
                self._provider, self._said = name, said
                if name.startswith("CUDA"):
                    if isinstance(path, str):  # a model, not the empty session before it
                        strict = options.get_session_config_entry("session.disable_cpu_ep_fallback")
                        started.append({"strict": strict, **said, **rest})
                    if raises and isinstance(path, str):
                        raise RuntimeError(raises)
                    options = ort.SessionOptions()
                    options.add_session_config_entry("session.use_env_allocators", "1")
                self._session = real(path, options, providers=["CPUExecutionProvider"])

            def get_providers(self) -> list[str]:
                used = [] if is_silent or not self._provider.startswith("CUDA") else [self._provider]
                return [*used, "CPUExecutionProvider"]

            def get_provider_options(self) -> dict[str, dict[str, str]]:
                return {self._provider: self._said}

            def __getattr__(self, name: str) -> object:
                return getattr(self._session, name)

        monkeypatch.setattr(ort, "InferenceSession", Session)
        monkeypatch.setattr(onnxruntime.arena, "share_on_gpu", lambda _index: None)  # no such memory here
        monkeypatch.setattr(onnxruntime.arena, "shrink", lambda _gpu=None: None)
        providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
        monkeypatch.setattr(ort, "get_available_providers", lambda: providers)
        return started

    return stand_in


def _broken(folder: Path) -> dict[str, Host]:
    gpu = gpu_wheel(folder / "packages")
    return {
        "no card": host(Driver(answer=100), CUDA_12, gpu),
        "no driver": host(None, CUDA_12, gpu),
        "no cuDNN": host(Driver(), [name for name in CUDA_12 if "cudnn" not in name], gpu),
        "CPU wheel": host(Driver(), CUDA_12, cpu_wheel(folder / "cpu")),
        "wrong version of the driver": host(Driver(cuda=11080), CUDA_12, gpu),
        "wrong version of cuBLAS": host(Driver(cuda=13000), CUDA_12, gpu_wheel(folder / "13", CUDA_13)),
    }


BROKEN = ("no card", "no driver", "no cuDNN", "CPU wheel", "wrong version of the driver", "wrong version of cuBLAS")


@pytest.mark.parametrize("suffix", [".onnx", ".pt"])
@pytest.mark.parametrize("word", BROKEN)
def test_a_named_gpu_that_cannot_start_is_refused_with_that_word(  # noqa: PLR0913, PLR0917 - fixtures, and one case a row
    tiny_model: WriteTiny,
    version: VersionOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cuda: Cuda,
    word: str,
    suffix: str,
) -> None:
    monkeypatch.setattr(compute, "host", _broken(tmp_path)[word])
    started = cuda()
    path = tiny_model(tmp_path / "tiny.onnx").rename(tmp_path / f"tiny{suffix}")
    with pytest.raises(ModelError, match=rf"compute cuda:0 did not start: {word} ") as refused:
        backends.load(version(path, sha256="00"), "cuda:0", tmp_path / "cache")
    assert refused.value.reason == "load_failed"
    assert not isinstance(refused.value, backends.NotPreparedError)  # because preparing would not cure it
    assert started == []


@pytest.mark.parametrize("word", BROKEN)
def test_auto_serves_on_the_cpu_and_says_what_is_missing(
    tiny_model: WriteTiny, version: VersionOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setattr(compute, "host", _broken(tmp_path)[word])
    entry = version(tiny_model(tmp_path / "tiny.onnx"))
    model = backends.load(entry, "auto", tmp_path / "cache")
    ran = backends.processor_of(model, entry, "auto")
    model.close()
    assert (ran.processor, ran.runtime, ran.provider) == ("cpu", "openvino", "CPU")
    assert ran.missing is not None
    assert ran.missing.startswith(word)


@pytest.mark.usefixtures("gpu_box")
def test_a_named_gpu_serves_with_every_operation_on_it(
    tiny_model: WriteTiny, version: VersionOf, tmp_path: Path, cuda: Cuda
) -> None:
    started = cuda()
    entry = version(tiny_model(tmp_path / "tiny.onnx"))
    model = backends.load(entry, "cuda:1", tmp_path / "cache")
    ran = backends.processor_of(model, entry, "cuda:1")
    model.close()
    assert started == [{"strict": "1", "device_id": "1", "enable_fallback": 0}]
    assert (ran.processor, ran.runtime, ran.provider) == ("cuda:1", "onnxruntime", "CUDAExecutionProvider")
    assert ran.missing is None


@pytest.mark.usefixtures("gpu_box")
def test_a_session_that_was_left_to_the_cpu_is_refused(
    tiny_model: WriteTiny, version: VersionOf, tmp_path: Path, cuda: Cuda
) -> None:
    cuda(is_silent=True)
    with pytest.raises(ModelError, match="compute cuda:0 did not start: no CUDA that starts") as refused:
        backends.load(version(tiny_model(tmp_path / "tiny.onnx")), "cuda:0", tmp_path / "cache")
    assert refused.value.reason == "load_failed"


@pytest.mark.usefixtures("gpu_box")
@pytest.mark.parametrize(
    ("said", "word"),
    [
        (
            "This session contains graph nodes that are assigned to the default CPU EP, but fallback",
            "no CUDA for some of its operations",
        ),
        ("CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; GPU=-1", "wrong version"),
        ("CUDA failure 100: no CUDA-capable device is detected ; GPU=32767", "no card"),
        ("CUDA failure 101: invalid device ordinal ; GPU=7", "no card of this number"),
        ("Failed to load library x.so with error: libcurand.so.10: cannot open shared object file", "no libcurand.so"),
        ("cuDNN is not available. Install cuDNN, update the system library search path, or set", "no cuDNN"),
        ("CUDNN failure 1001: CUDNN_STATUS_NOT_INITIALIZED ; GPU=0", "no working cuDNN"),
    ],
)
def test_what_onnxruntime_says_of_a_gpu_is_told_in_our_words(  # noqa: PLR0913, PLR0917 - fixtures, and one case a row
    tiny_model: WriteTiny, version: VersionOf, tmp_path: Path, cuda: Cuda, said: str, word: str
) -> None:
    cuda(said)
    with pytest.raises(ModelError, match=f"compute cuda:0 did not start: {word}"):
        backends.load(version(tiny_model(tmp_path / "tiny.onnx")), "cuda:0", tmp_path / "cache")


@pytest.mark.usefixtures("gpu_box")
def test_a_fault_of_the_file_is_no_fault_of_the_gpu(
    tiny_model: WriteTiny, version: VersionOf, tmp_path: Path, cuda: Cuda
) -> None:
    cuda("[ONNXRuntimeError] : 1 : FAIL : No Op registered for Frobnicate with domain_version of 17")
    with pytest.raises(ModelError, match="no operation Frobnicate"):
        backends.load(version(tiny_model(tmp_path / "tiny.onnx")), "auto", tmp_path / "cache")


@pytest.mark.usefixtures("gpu_box")
def test_auto_takes_the_cpu_once_the_gpu_did_not_start(
    tiny_model: WriteTiny, version: VersionOf, tmp_path: Path, cuda: Cuda
) -> None:
    started = cuda(is_silent=True)
    entry, cache = version(tiny_model(tmp_path / "tiny.onnx")), tmp_path / "cache"
    assert backends.backend_of(entry, "auto") == "onnxruntime"
    with pytest.raises(FellBackError, match="no CUDA that starts"):
        backends.load(entry, "auto", cache)
    assert backends.backend_of(entry, "auto") == "openvino"
    model = backends.load(entry, "auto", cache)
    ran = backends.processor_of(model, entry, "auto")
    model.close()
    assert (ran.processor, ran.runtime) == ("cpu", "openvino")
    assert ran.missing is not None
    assert "no CUDA that starts" in ran.missing
    assert started == []  # the model itself was not tried


@pytest.mark.usefixtures("gpu_box")
@pytest.mark.parametrize("suffix", [".onnx", ".pt"])
def test_what_fell_back_is_prepared_for_the_cpu_in_its_own_process(
    tmp_path: Path, version: VersionOf, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    asked: list[Request] = []

    class Recorder:
        def __init__(self, request: Request, tell: object) -> None:
            del tell
            asked.append(request)

        def run(self) -> Outcome:
            return Outcome("prepared", "by a stand-in")

    monkeypatch.setattr(background_builder, "Preparation", Recorder)
    path = tmp_path / f"tiny{suffix}"
    path.write_bytes(b"weights")
    entry, ended = version(path, sha256="00"), threading.Event()
    assert choice.fall_back(entry, ProcessorError("tiny", "cuda:0", ["no CUDA that starts"]))
    builder = BackgroundBuilder("auto", tmp_path / "cache", 1 << 30)
    builder.start()
    builder.prepare_first(entry, lambda _failure: ended.set())
    assert ended.wait(60)
    builder.stop()
    (request,) = asked
    monkeypatch.setattr(choice, "_fell_back", {})  # as in the process that prepares, which knows of no fault
    key_there = backends.artifact_key(request.model, request.compute)
    choice.fall_back(entry, ProcessorError("tiny", "cuda:0", ["no CUDA that starts"]))
    assert key_there == backends.artifact_key(entry, "auto") is not None


@pytest.mark.usefixtures("gpu_box")
def test_a_checkpoint_under_auto_is_prepared_also_where_the_gpu_does_not_start(
    tiny_model: WriteTiny, version: VersionOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cuda: Cuda
) -> None:
    """The worker's load then says that it does not, and has the CPU's artifact made."""
    cuda(is_silent=True)
    content = tiny_model(tmp_path / "tiny.onnx").read_bytes()
    (tmp_path / "tiny.pt").write_bytes(content)
    entry, cache = version(tmp_path / "tiny.pt", sha256=file_sha256(tmp_path / "tiny.pt")), tmp_path / "cache"
    monkeypatch.setattr(checkpoint, "export", lambda *_, **__: tmp_path / "tiny.onnx")
    monkeypatch.setattr(build_process, "require_sound", lambda _: None)  # the stand-in is no pickle
    monkeypatch.setattr(build_process, "measure", lambda load, base: load(base).close() or base)  # on a quiet device
    said: list[str] = []
    for expected in ("prepared", "present"):
        outcome = build_process.prepare(Request(entry, "auto", str(cache)), said.append)
        assert outcome.result == expected, outcome
    assert any("no CUDA that starts" in word for word in said)
    named = build_process.prepare(Request(entry, "cuda:0", str(tmp_path / "named")), said.append)
    assert (named.result, named.reason) == ("failed", "load_failed")
    with pytest.raises(FellBackError):
        backends.load(entry, "auto", cache)
    again = build_process.prepare(Request(entry, choice.compute_now(entry, "auto"), str(cache)), said.append)
    assert again.result == "prepared", again
    model = backends.load(entry, "auto", cache)
    ran = backends.processor_of(model, entry, "auto")
    model.close()
    assert (ran.processor, ran.runtime) == ("cpu", "openvino")


@pytest.mark.usefixtures("gpu_box")
def test_what_the_catalog_keeps_from_the_gpu_is_no_fault(
    tiny_model: WriteTiny, version: VersionOf, tmp_path: Path
) -> None:
    entry = version(tiny_model(tmp_path / "tiny.onnx"), backend="openvino")
    model = backends.load(entry, "auto", tmp_path / "cache")
    ran = backends.processor_of(model, entry, "auto")
    model.close()
    assert (ran.processor, ran.missing) == ("cpu", None)
    with pytest.raises(ModelError, match="no GPU in OpenVINO"):
        backends.load(entry, "cuda:0", tmp_path / "cache")


@pytest.mark.parametrize(("backend", "word"), [("auto", "no TensorRT"), ("onnxruntime", "no TensorRT in onnxruntime")])
def test_tensorrt_is_refused_where_it_cannot_start(  # noqa: PLR0913, PLR0917 - fixtures, and one case a row
    tiny_model: WriteTiny,
    version: VersionOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    word: str,
) -> None:
    monkeypatch.setattr(compute, "host", host(Driver()))
    entry = version(tiny_model(tmp_path / "tiny.onnx"), backend=backend)
    with pytest.raises(ModelError, match=f"compute tensorrt:0 did not start: {word}") as refused:
        backends.load(entry, "tensorrt:0", tmp_path / "cache")
    assert refused.value.reason == "load_failed"


def test_a_checkpoint_on_a_box_with_a_gpu_but_no_runtime_for_it_goes_to_openvino(
    version: VersionOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = version(Path("cap.pt"), sha256="00")
    monkeypatch.setattr(compute, "host", host(Driver(), CUDA_12, cpu_wheel(tmp_path)))
    assert backends.backend_of(entry, "auto", is_prepared=True) == "openvino"
    assert backends.artifact_key(entry, "auto") == backends.artifact_key(entry, "cpu") is not None


@pytest.mark.usefixtures("gpu_box")
def test_a_checkpoint_on_a_box_with_a_working_gpu_is_prepared_as_a_graph(version: VersionOf) -> None:
    entry = version(Path("cap.pt"), sha256="00")
    assert backends.backend_of(entry, "auto", is_prepared=True) == "onnxruntime"
    assert backends.artifact_key(entry, "auto") == backends.artifact_key(entry, "cuda:1") is not None
    assert backends.artifact_key(version(Path("cap.onnx"), sha256="00"), "auto") is None


@pytest.mark.usefixtures("gpu_box")
@pytest.mark.parametrize("compute_word", ["auto", "cuda:0", "tensorrt:0"])
@pytest.mark.parametrize("suffix", [".onnx", ".pt"])
def test_two_fine_tunes_of_one_architecture_share_nothing_in_the_cache(  # noqa: PLR0913, PLR0917 - fixtures, and one case a row
    tiny_model: WriteTiny,
    version: VersionOf,
    tmp_path: Path,
    cuda: Cuda,
    compute_word: str,
    suffix: str,
) -> None:
    started = cuda()
    paths = [tiny_model(tmp_path / f"{name}.onnx") for name in ("one", "two")]
    first, second = (version(path.rename(path.with_suffix(suffix)), sha256=f"{path.name}") for path in paths)
    keys = [backends.artifact_key(entry, compute_word) for entry in (first, second)]
    assert keys[0] is None or keys[0] != keys[1]
    if compute_word == "tensorrt:0" or suffix == ".pt":
        return
    cache = tmp_path / "cache"
    for entry in (first, second):
        backends.load(entry, compute_word, cache).close()
    assert not cache.exists() or not any(cache.iterdir())  # no engine, and nothing else, outlives a load
    assert all("trt" not in option and "cache" not in option for one in started for option in one)
    assert ArtifactStore(cache).used_bytes() == 0


def _torch(cuda: str | None, cards: int = 0) -> Any:  # noqa: ANN401 - as torch, which ships no types here
    cards_of = SimpleNamespace(is_available=lambda: cards > 0, device_count=lambda: cards)
    return SimpleNamespace(__version__="2.9.1", version=SimpleNamespace(cuda=cuda), cuda=cards_of)


@pytest.mark.parametrize(
    ("torch", "file", "wanted", "expected"),
    [
        (_torch(None), "cap.pt", "cuda:0", "CPU wheel of torch"),
        (_torch("12.6"), "cap.pt", "cuda:0", "no driver"),
        (_torch("12.6", 2), "cap.pt", "tensorrt:0", "no TensorRT for a .pt"),
        (_torch("12.6", 2), "cap.engine", "cpu", "an .engine runs on a GPU only"),
        (_torch(None), "cap.engine", "auto", "CPU wheel of torch"),
        (_torch("12.6", 2), "cap.pt", "cuda:1", None),
        (_torch("12.6", 2), "cap.engine", "tensorrt:1", None),
    ],
)
def test_torch_is_asked_before_it_serves(  # noqa: PLR0913, PLR0917 - fixtures, and one case a row
    version: VersionOf, monkeypatch: pytest.MonkeyPatch, torch: object, file: str, wanted: str, expected: str | None
) -> None:
    monkeypatch.setattr(compute, "host", host(None))
    ultralytics = importlib.import_module("agent.inference.backends.ultralytics")
    if expected is None:
        assert ultralytics._device(torch, version(Path(file)), wanted) == "cuda:1"
        return
    with pytest.raises(ProcessorError, match=f"compute {wanted} did not start: {expected}"):
        ultralytics._device(torch, version(Path(file)), wanted)


def test_torch_takes_the_cpu_under_auto(version: VersionOf) -> None:
    ultralytics = importlib.import_module("agent.inference.backends.ultralytics")
    assert ultralytics._device(_torch("12.6"), version(Path("cap.pt")), "auto") == "cpu"
    assert ultralytics._device(_torch("12.6", 1), version(Path("cap.pt")), "auto") == "cuda:0"
