"""Memory that runtimes take on GPUs, and their figures of it, with stand-ins for their libraries."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agent.inference import backends
from agent.inference.backends import ultralytics

ort_backend = pytest.importorskip("agent.inference.backends.onnxruntime")
arena = pytest.importorskip("agent.inference.backends.onnxruntime_arena")
ort = pytest.importorskip("onnxruntime")

CUDA = "CUDAExecutionProvider"


@pytest.fixture(autouse=True)
def _anew(monkeypatch: pytest.MonkeyPatch) -> None:
    arena.share_on_gpu.cache_clear()
    arena._empty_session.cache_clear()
    monkeypatch.setattr(backends.DEVICE_LIMIT, "bytes", 3 << 30)


def test_sessions_on_a_gpu_share_one_arena_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    registered: list[tuple[Any, ...]] = []
    configs: list[dict[str, int]] = []
    made = ort.OrtArenaCfg

    def config(values: dict[str, int]) -> object:
        configs.append(values)
        return made(values)  # which refuses names that it does not know

    monkeypatch.setattr(ort, "OrtArenaCfg", config)
    monkeypatch.setattr(ort, "create_and_register_allocator_v2", lambda *told: registered.append(told))
    arena.share_on_gpu(1)
    arena.share_on_gpu(1)
    ((provider, _, options, _),) = registered
    assert (provider, options) == (CUDA, {"device_id": "1"})
    assert configs == [{"arena_extend_strategy": 1, "max_mem": 3 << 30}]


def test_the_arena_of_a_session_on_a_gpu_is_shrunk_too(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []
    providers: list[object] = []

    class Session:
        def __init__(self, _model: bytes, _options: object, providers: list[object]) -> None:
            told.extend(providers)

        def run(self, _outputs: None, inputs: dict[str, Any], options: Any) -> None:  # noqa: ANN401
            assert inputs["x"].dtype == np.float32
            runs.append(options.get_run_config_entry("memory.enable_memory_arena_shrinkage"))

    told = providers
    monkeypatch.setattr(ort, "InferenceSession", Session)
    arena.shrink()
    arena.shrink(0)
    assert runs == ["cpu:0", "cpu:0;gpu:0"]
    assert providers == ["CPUExecutionProvider", (CUDA, {"device_id": "0"}), "CPUExecutionProvider"]


@pytest.mark.parametrize(("provider", "counted"), [("CPUExecutionProvider", 0), (CUDA, None)])
def test_a_session_on_a_gpu_is_not_counted(monkeypatch: pytest.MonkeyPatch, provider: str, counted: int | None) -> None:
    session = SimpleNamespace(
        get_providers=lambda: [provider, "CPUExecutionProvider"],
        get_provider_options=lambda: {provider: {"device_id": "1"}},
    )
    shrunk: list[int | None] = []
    monkeypatch.setattr(arena, "shrink", shrunk.append)
    place = ort_backend._Place(ort_backend._gpu_of(session))
    assert place.bytes() == counted
    place.close()
    assert place.bytes() == 0
    assert shrunk == [None if counted == 0 else 1]


class _Cuda:
    """torch's allocator: what it gave out, and what it holds."""

    def __init__(self) -> None:
        self.allocated = 100
        self.is_initialized = lambda: True
        self.device_count = lambda: 1

    def memory_allocated(self, device: object) -> int:
        del device
        return self.allocated

    def memory_reserved(self, index: int) -> int:
        del index
        return 512


@pytest.mark.parametrize(
    ("kind", "is_counted", "expected"), [("cpu", True, 0), ("cuda", True, 40), ("cuda", False, None)]
)
def test_a_model_of_torch_has_what_its_load_allocated(kind: str, expected: int | None, *, is_counted: bool) -> None:
    torch = SimpleNamespace(cuda=_Cuda())
    share = ultralytics._Share(torch, SimpleNamespace(type=kind))
    torch.cuda.allocated += 40
    assert share() == 0
    share.measure(is_counted=is_counted)
    assert share() == expected
    share.close()
    assert share() == 0


def test_runtimes_that_were_not_imported_hold_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "BACKENDS", ("tensorrt-of-tomorrow", "openvino"))
    assert backends.held_device_bytes() == 0


@pytest.mark.parametrize("name", backends.BACKENDS)
def test_every_runtime_says_what_it_holds(name: str) -> None:
    module = pytest.importorskip(f"agent.inference.backends.{name}")
    assert module.held_device_bytes() == 0
