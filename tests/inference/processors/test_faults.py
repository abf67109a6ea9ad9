"""Each obstacle that keeps a GPU from working is named by its own word."""

import sys
from pathlib import Path

import pytest
from support.gpu_hosts import CUDA_12, CUDA_13, Driver, cpu_wheel, gpu_wheel, host, write_library

from agent.inference.processors import compute
from agent.inference.processors.elf import needed_libraries
from agent.inference.processors.host import THIS_HOST, Host
from agent.inference.processors.ran_on import RanOn
from agent.messages.payloads import ModelProcessor


def _hosts(folder: Path) -> dict[str, tuple[Host, tuple[str, ...]]]:
    gpu = gpu_wheel(folder / "gpu")
    gpu_13 = gpu_wheel(folder / "gpu13", CUDA_13)
    without_cudnn = [name for name in CUDA_12 if "cudnn" not in name]
    cudnn_8 = [*without_cudnn, "libcudnn.so.8"]
    return {
        "all there": (host(Driver(), CUDA_12, gpu), ()),
        "no card": (host(Driver(cards=0), CUDA_12, gpu), ("no card (the driver finds none)",)),
        "no card, says cuInit": (host(Driver(answer=100), CUDA_12, gpu), ("no card (the driver finds none)",)),
        "no driver": (host(None, CUDA_12, gpu), ("no driver (libcuda.so.1 cannot be loaded)",)),
        "nothing": (
            host(None, (), None, has_node=False),
            ("no onnxruntime-gpu", "no card (no NVIDIA device node)", "no driver (libcuda.so.1 cannot be loaded)"),
        ),
        "driver of another kernel module": (
            host(Driver(answer=803), CUDA_12, gpu),
            ("no working driver (cuInit answers 803: another version than the kernel's module; restart the device)",),
        ),
        "no cuDNN": (host(Driver(), without_cudnn, gpu), ("no cuDNN (libcudnn.so.9 cannot be loaded)",)),
        "CPU wheel": (
            host(Driver(), CUDA_12, cpu_wheel(folder / "cpu")),
            ("CPU wheel of onnxruntime (install onnxruntime-gpu in its place)",),
        ),
        "wrong version of cuDNN": (
            host(Driver(), cudnn_8, gpu),
            ("wrong version of cuDNN (libcudnn.so.9 is needed, libcudnn.so.8 is here)",),
        ),
        "no cuDNN for a release that does not name it": (
            host(Driver(cuda=13000), CUDA_13, gpu_13),
            ("no cuDNN (libcudnn.so.9 cannot be loaded)",),
        ),
        "wrong version of the driver": (
            host(Driver(cuda=11040), CUDA_12, gpu),
            ("wrong version of the driver (it has CUDA 11.4, the runtime needs 12)",),
        ),
        "onnxruntime-gpu of another CUDA": (
            host(Driver(cuda=13000), CUDA_12, gpu_13),
            (
                "wrong version of cuBLAS (libcublas.so.13 is needed, libcublas.so.12 is here)",
                "no cuRAND (libcurand.so.10 cannot be loaded)",
                "wrong version of CUDA runtime (libcudart.so.13 is needed, libcudart.so.12 is here)",
            ),
        ),
    }


@pytest.mark.parametrize(
    "case",
    [
        "all there",
        "no card",
        "no card, says cuInit",
        "no driver",
        "nothing",
        "driver of another kernel module",
        "no cuDNN",
        "no cuDNN for a release that does not name it",
        "CPU wheel",
        "wrong version of cuDNN",
        "wrong version of the driver",
        "onnxruntime-gpu of another CUDA",
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    here, words = _hosts(tmp_path)[case]
    monkeypatch.setattr(compute, "host", here)
    assert compute.faults("cuda:0") == words


def test_a_card_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "host", host(Driver(cards=2), CUDA_12, gpu_wheel(tmp_path)))
    assert compute.faults("cuda:1") == ()
    assert compute.faults("cuda:2") == ("no card 2 (the driver has 2)",)


def test_tensorrt_is_its_own_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "host", host(Driver()))
    assert compute.faults("tensorrt:0") == ("no TensorRT (no Python module tensorrt)",)
    monkeypatch.setattr(compute, "host", host(Driver(), tensorrt=tmp_path))
    assert compute.faults("tensorrt:0") == ()


@pytest.mark.parametrize(
    ("distribution", "words"),
    [
        ("tensorrt-8.6.2.dist-info", ("wrong version of TensorRT (10.3 or newer is needed, 8.6 is here)",)),
        ("tensorrt_cu12-10.1.0.dist-info", ("wrong version of TensorRT (10.3 or newer is needed, 10.1 is here)",)),
        ("tensorrt-10.3.0.dist-info", ()),
        ("tensorrt_cu13-11.4.0.106.dist-info", ()),
        ("tensorrt_dispatch-8.6.1.dist-info", ()),  # another package
    ],
)
def test_a_tensorrt_that_is_too_old_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distribution: str, words: tuple[str, ...]
) -> None:
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / distribution).mkdir()
    monkeypatch.setattr(compute, "host", host(Driver(), tensorrt=tmp_path / "tensorrt"))
    assert compute.faults("tensorrt:0") == words


def test_auto_is_the_gpu_only_where_nothing_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = gpu_wheel(tmp_path)
    monkeypatch.setattr(compute, "host", host(Driver(), CUDA_12, gpu))
    assert compute.choose("auto").compute == "cuda:0"
    monkeypatch.setattr(compute, "host", host(None, CUDA_12, gpu))
    chosen = compute.choose("auto")
    assert (chosen.compute, chosen.missing) == ("cpu", ("no driver (libcuda.so.1 cannot be loaded)",))
    monkeypatch.setattr(compute, "host", host(None, CUDA_12, gpu, has_node=False))
    chosen = compute.choose("auto")
    assert (chosen.compute, chosen.missing) == ("cpu", ())  # without a GPU there is nothing to miss


def test_auto_names_tensorrt_where_only_that_would_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "host", host(Driver(), tensorrt=tmp_path))
    chosen = compute.choose("auto")
    assert chosen.compute == "cpu"
    assert chosen.missing == ("no onnxruntime-gpu", 'TensorRT is here: compute = "tensorrt:0" uses it')
    monkeypatch.setattr(compute, "host", host(None, tensorrt=tmp_path))
    assert len(compute.choose("auto").missing) == 2, "without a driver it would not start either"


def test_libraries_of_python_packages_count(tmp_path: Path) -> None:
    nvidia = tmp_path / "nvidia"
    for library in CUDA_12:
        folder = nvidia / library.split(".")[0] / "lib"
        folder.mkdir(parents=True)
        (folder / library).touch()
    bare = host(Driver())
    packaged = Host(bare.open_library, {"nvidia": nvidia}.get, bare.has_node)
    assert all(packaged.has_library(name) for name in CUDA_12)
    assert not packaged.has_library("libcudnn.so.8")


def test_what_a_library_needs_is_read_from_it(tmp_path: Path) -> None:
    path = tmp_path / "lib.so"
    write_library(path, CUDA_12)
    assert needed_libraries(path) == CUDA_12
    whole = path.read_bytes()
    for length in (0, 3, 20, 63, 100, 175, len(whole) // 2):
        path.write_bytes(whole[:length])
        assert len(needed_libraries(path)) <= len(CUDA_12)  # a cut file is no reason to fail
    path.write_text("no library")
    assert needed_libraries(path) == ()


def test_a_real_library_is_read() -> None:
    extension = Path(sys.modules["_ctypes"].__file__ or "")
    if not extension.is_file():
        pytest.skip("this Python has no extension modules of its own")
    assert "libc.so.6" in needed_libraries(extension)


def test_this_host_can_be_asked() -> None:
    assert THIS_HOST.has_library("libc.so.6")
    assert not THIS_HOST.has_library("libof-nobody.so.1")
    assert THIS_HOST.module_folder("agent") == Path(__file__).parents[3] / "agent"
    assert THIS_HOST.module_folder("of_nobody") is None
    assert THIS_HOST.module_folder("of_nobody.at_all") is None


def test_what_models_ran_on_is_remembered(tmp_path: Path) -> None:
    first = ModelProcessor("cpu", "openvino", "2026.4.1", "CPU", "no cuDNN")
    then = ModelProcessor("cuda:0", "onnxruntime", "1.31.1", "CUDAExecutionProvider")
    noted = RanOn(tmp_path / "cache")
    assert noted.read() == {}
    noted.note("cap:n@1", first)
    noted.note("cap:s@1", first)
    noted.note("cap:n@1", then)
    assert RanOn(tmp_path / "cache").read() == {"cap:s@1": first, "cap:n@1": then}
    assert str(then) == "cuda:0 (onnxruntime 1.31.1, CUDAExecutionProvider)"
    assert str(first) == "cpu (openvino 2026.4.1, CPU), not on the GPU: no cuDNN"
    (tmp_path / "cache" / "processors.json").write_text("{")
    assert noted.read() == {}
