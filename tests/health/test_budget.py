"""Memory budget for models: of the device, of its cgroups, of a GPU's own memory."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.app.children import memory_budget
from agent.app.children.memory_budget import Budgets
from agent.health.sensors import available_memory
from agent.health.sensors.gpu_memory import free_device_bytes
from agent.settings import load

MIB = 1 << 20


@pytest.mark.parametrize(
    ("available_mib", "streams", "expected_mib"),
    [(8000, 1, 6848), (8000, 4, 6560), (2000, 2, 1352), (600, 1, 188), (300, 1, 75), (0, 1, 0)],
)
def test_auto_is_what_is_available_less_the_reserve(available_mib: int, streams: int, expected_mib: int) -> None:
    own_bytes = memory_budget.PROCESSES_BYTES + streams * memory_budget.CAMERA_BYTES
    assert memory_budget.auto_bytes(available_mib * MIB, own_bytes) == expected_mib * MIB


def write_settings(folder: Path, device: str) -> Path:
    path = folder / "changeover.toml"
    path.write_text(
        f'[device]\nstate_dir = "state"\n{device}\n[[stream]]\nid = "cam-1"\nline = "line-1"\nsource = "/dev/video0"\n'
        '[line.line-1]\ndefault = "cap-check"\n'
    )
    return path


@pytest.mark.parametrize(
    ("web", "own_mib"),
    [
        ("", 352),
        ('bind = "127.0.0.1:1"', 352 + 64 + 128 + 96),
        ('bind = "127.0.0.1:1"\ngateway = false', 352 + 64),
    ],
)
def test_requests_under_way_are_left_free(tmp_path: Path, web: str, own_mib: int) -> None:
    path = write_settings(tmp_path, "")
    path.write_text(f"{path.read_text()}[web]\n{web}\n")
    assert memory_budget.own_bytes(load(path, {})) == own_mib * MIB


@pytest.mark.parametrize(
    ("device", "expected_mib"),
    [
        ("", 3248),
        ('memory_budget = "900MiB"', 900),
        ("memory_budget = 0.5", 2000),
        ('compute = "cuda:1"', 9000 - 512),
        ('compute = "cuda:1"\nmemory_budget = 0.5', 5000),
    ],
)
def test_the_budget_is_of_the_memory_that_the_models_will_lie_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, expected_mib: int
) -> None:
    monkeypatch.setattr(memory_budget, "available_bytes", lambda: 4000 * MIB)
    monkeypatch.setattr(
        memory_budget, "free_device_bytes", lambda compute: 10000 * MIB if compute == "cuda:1" else None
    )
    assert memory_budget.decide(load(write_settings(tmp_path, device), {})).of_models == expected_mib * MIB


@pytest.mark.parametrize(
    ("device", "gpus", "expected"),
    [
        ("", {}, Budgets(3248 * MIB)),
        ('compute = "cpu"', {"cuda:0": 10000}, Budgets(3248 * MIB)),
        ('compute = "cuda:1"', {}, Budgets(3248 * MIB)),
        ('compute = "cuda:1"', {"cuda:1": 10000}, Budgets(3248 * MIB, 8488 * MIB, models_in_device=True)),
        (
            'compute = "cuda:1"\nmemory_budget = "900MiB"',
            {"cuda:1": 10000},
            Budgets(3248 * MIB, 900 * MIB, models_in_device=True),
        ),
        ('memory_budget = "900MiB"', {"cuda:0": 10000}, Budgets(3248 * MIB, 900 * MIB, models_in_device=True)),
    ],
)
def test_a_gpu_with_memory_of_its_own_is_a_second_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, gpus: dict[str, int], expected: Budgets
) -> None:
    monkeypatch.setattr(memory_budget, "_auto", lambda: "cuda:0")
    monkeypatch.setattr(memory_budget, "available_bytes", lambda: 4000 * MIB)
    monkeypatch.setattr(memory_budget, "free_device_bytes", lambda c: gpus[c] * MIB if c in gpus else None)
    assert memory_budget.decide(load(write_settings(tmp_path, device), {})) == expected


def test_a_box_without_such_memory_starts_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_budget, "free_device_bytes", lambda _: None)
    monkeypatch.setattr("agent.app.children.memory_budget.subprocess.run", None)
    assert memory_budget.decide(load(write_settings(tmp_path, ""), {})).device is None


class DummyNvml:
    """Two GPUs; what NVML's functions answer, and that each initialisation is ended."""

    def __init__(self, starts: int = 0, tells: int = 0) -> None:
        self.starts = starts
        self.tells = tells
        self.open = 0

    def nvmlInit_v2(self) -> int:  # noqa: N802 - NVML's own names
        self.open += self.starts == 0
        return self.starts

    def nvmlShutdown(self) -> int:  # noqa: N802
        self.open -= 1
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, handle: Any) -> int:  # noqa: N802, ANN401
        handle._obj.value = 100 + index
        return 0 if index < 2 else 6

    def nvmlDeviceGetMemoryInfo(self, handle: ctypes.c_void_p, told: Any) -> int:  # noqa: N802, ANN401
        told._obj.free = 7 * MIB * int(handle.value or 0)
        return self.tells


def test_free_memory_of_the_gpu_that_is_named() -> None:
    library = DummyNvml()
    assert free_device_bytes("cuda:1", lambda _: library) == 7 * MIB * 101
    assert free_device_bytes("cuda", lambda _: library) == 7 * MIB * 100
    assert free_device_bytes("cuda:2", lambda _: library) is None
    assert library.open == 0


@pytest.mark.parametrize("library", [DummyNvml(starts=9), DummyNvml(tells=3)])
def test_without_a_word_from_the_driver_there_is_no_memory_of_its_own(library: DummyNvml) -> None:
    assert free_device_bytes("cuda:0", lambda _: library) is None
    assert library.open == 0


def test_without_the_library_or_without_a_gpu_there_is_none() -> None:
    def missing(name: str) -> Any:  # noqa: ANN401
        raise OSError(name)

    assert free_device_bytes("cuda:0", missing) is None
    assert free_device_bytes("cpu", missing) is None
    assert free_device_bytes("auto", missing) is None


Write = Callable[[dict[str, str]], Path]


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Put this process into a cgroup below one whose files are given."""

    def write(files: dict[str, str]) -> Path:
        folder = tmp_path / "system.slice"
        (folder / "changeover.service").mkdir(parents=True)
        for name, text in files.items():
            (folder / name).write_text(text)
        monkeypatch.setattr(available_memory, "_own_cgroups", lambda: [folder / "changeover.service", folder])
        monkeypatch.setattr("psutil.virtual_memory", lambda: type("M", (), {"available": 4000 * MIB}))
        return folder

    return write


@pytest.mark.parametrize(
    ("files", "expected_mib"),
    [
        ({}, 4000),
        ({"memory.max": "max\n", "memory.current": str(900 * MIB)}, 4000),
        ({"memory.max": str(1000 * MIB), "memory.current": str(900 * MIB)}, 100),
        ({"memory.max": "max", "memory.high": str(1000 * MIB), "memory.current": str(1200 * MIB)}, 0),
        (
            {
                "memory.max": str(1000 * MIB),
                "memory.current": str(900 * MIB),
                "memory.stat": f"anon 1\ninactive_file {300 * MIB}\n",
            },
            400,
        ),
    ],
)
def test_a_cgroups_limit_holds_and_its_file_cache_is_free(
    cgroup: Write, files: dict[str, str], expected_mib: int
) -> None:
    cgroup(files)
    assert available_memory.available_bytes() == expected_mib * MIB
