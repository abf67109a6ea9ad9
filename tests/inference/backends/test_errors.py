"""Runtimes' errors in their own words."""

import errno
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from agent.inference.backends import errors
from agent.inference.backends.errors import InferenceError, inferring, is_out_of_memory, loading, plain_of_export
from agent.messages.errors import ChangeoverError, ModelError, OutOfMemoryError
from agent.messages.references import ModelVersion

ENTRY = ModelVersion("cap", "n", "1", "cap.onnx", "")
NO_MEMORY = [
    MemoryError(),
    OSError(errno.ENOMEM, "mmap"),
    RuntimeError("std::bad_alloc"),
    RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("NVML_SUCCESS == r INTERNAL ASSERT FAILED at CUDACachingAllocator.cpp:838"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
    RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : bfc_arena.cc Failed to allocate memory for requested"),
    RuntimeError("[GPU] CL_OUT_OF_RESOURCES"),
]


@pytest.mark.parametrize("error", NO_MEMORY, ids=str)
def test_no_memory_is_known_in_every_dress(error: Exception) -> None:
    assert is_out_of_memory(error)
    with pytest.raises(OutOfMemoryError), loading(ENTRY):
        raise error
    with pytest.raises(OutOfMemoryError), inferring("cap:n@1"):
        raise error


@pytest.mark.parametrize(
    "error", [RuntimeError("shape mismatch"), ValueError("no such op"), OSError(errno.EIO, "read")]
)
def test_anything_else_is_not(error: Exception) -> None:
    assert not is_out_of_memory(error)
    with pytest.raises(ModelError, match="cap:n@1: ") as refused, loading(ENTRY):
        raise error
    assert refused.value.reason == "load_failed"
    with pytest.raises(InferenceError, match="cap:n@1: "), inferring("cap:n@1"):
        raise error


def test_what_is_already_said_stays_as_it_is() -> None:
    said = ModelError("proof_failed", "NaN")
    for edge in (loading(ENTRY), inferring("cap:n@1")):
        with pytest.raises(ModelError) as raised, edge:
            raise said
        assert raised.value is said


def test_pages_become_a_line() -> None:
    with pytest.raises(ModelError) as refused, loading(ENTRY):
        raise RuntimeError("Exception from src/core.cpp:1:\n" + "very long\n" * 1000)
    assert len(str(refused.value)) < 500
    assert "\n" not in str(refused.value)


CPP = RuntimeError("[ONNXRuntimeError] : 1 : FAIL : bfc.cc:376 void* onnxruntime::Arena::Alloc(size_t) odd shape")


@pytest.mark.parametrize("edge", [lambda: loading(ENTRY), lambda: inferring("cap:n@1")], ids=["loading", "inferring"])
def test_the_words_of_a_runtime_go_to_the_log_once(
    caplog: pytest.LogCaptureFixture, edge: Callable[[], AbstractContextManager[None]]
) -> None:
    errors._log_once.cache_clear()
    for _ in range(3):  # a model that fails does so with each frame
        with pytest.raises(ChangeoverError, match="cap:n@1: ") as told, edge():
            raise CPP
        assert "::" not in str(told.value)
        assert ".cc" not in str(told.value)
    assert sum("onnxruntime::Arena" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize("edge", [lambda: loading(ENTRY), lambda: inferring("tiny:n@1")])
def test_no_memory_is_told_without_a_runtimes_cpp(edge: Callable[[], AbstractContextManager[None]]) -> None:
    words = "[ONNXRuntimeError] : 1 : FAIL : bfc_arena.cc:376 Failed to allocate memory for requested buffer of size 9"
    with pytest.raises(OutOfMemoryError) as told, edge():
        raise RuntimeError(words)
    assert "ONNXRuntimeError" not in str(told.value)
    assert "bfc_arena" not in str(told.value)
    assert "smaller variant" in str(told.value)
    with pytest.raises(OutOfMemoryError, match="Unable to allocate 9 GiB"), edge():
        raise MemoryError("Unable to allocate 9 GiB for an array")


def test_a_failed_export_is_told_without_a_librarys_cpp() -> None:
    assert "PytorchStreamReader" not in plain_of_export("RuntimeError: PytorchStreamReader failed reading zip archive")
    assert plain_of_export("TypeError: ERROR ❌️ best.pt has odd types") == "TypeError: best.pt has odd types"
