"""Every byte of every engine is counted, comes back, and stays within the budget; a broken GPU ends the worker."""

import gc
import random
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from support.fake_gpu.installed import FakeGpu, installed
from support.fake_gpu.libcuda import ECC_UNCORRECTABLE, FakeCuda
from support.seeing_models import pictures

from agent.inference import backends
from agent.inference.artifacts.artifact_store import Opened
from agent.inference.backends import Model
from agent.inference.cuda.errors import DeviceLostError, when_lost
from agent.inference.memory.device_pool import DevicePool
from agent.messages.errors import OutOfDeviceMemoryError, OutOfMemoryError
from agent.messages.references import ModelVersion

COMPUTE = "tensorrt:0"
SCRATCH = "tensorrt"
Seeing = Callable[..., ModelVersion]
Build = Callable[..., Opened]
Load = Callable[[], Model]


def pool_of(gpu: FakeGpu) -> DevicePool:
    pool = gpu.devices.open(0).pool
    assert isinstance(pool, DevicePool)
    return pool


def loader(version: ModelVersion, build: Build) -> Load:
    return partial(backends.restore, version, build(version), COMPUTE, Path())


def everything_is_back(gpu: FakeGpu) -> bool:
    cuda = gpu.cuda
    left = (cuda.used_bytes, pool_of(gpu).used_bytes, len(cuda.pinned), len(cuda.executables), len(cuda.graphs))
    return (*left, len(cuda.events)) == (0, 0, 0, 0, 0, 0)


def test_five_resident_engines_take_their_weights_and_one_scratch_block(
    one_gpu: FakeGpu, seeing: Seeing, build: Build, record_property: Callable[[str, object], None]
) -> None:
    """The figure of the issue: five against one."""
    versions = [seeing(f"m{seed}", seed=seed, imgsz=128, hidden=2048 * (seed + 1)) for seed in range(5)]
    loads = [loader(version, build) for version in versions]
    pool = pool_of(one_gpu)
    alone_bytes, scratch_bytes = [], []
    for load in loads:
        model = load()
        alone_bytes.append(pool.used_bytes)
        scratch_bytes.append(pool.used_by(SCRATCH))
        model.close()
        del model
        assert everything_is_back(one_gpu)
    models = [load() for load in loads]
    own_bytes = [alone - scratch for alone, scratch in zip(alone_bytes, scratch_bytes, strict=True)]
    assert pool.used_by(SCRATCH) == max(scratch_bytes)
    assert pool.used_bytes == sum(own_bytes) + max(scratch_bytes)
    assert [pool.used_by(version.reference) for version in versions] == own_bytes
    assert [getattr(model, "device_bytes", None) for model in models] == own_bytes
    record_property("five_bytes", pool.used_bytes)
    record_property("alone_bytes", alone_bytes)
    sys.stdout.write(f"five {pool.used_bytes}, alone {alone_bytes}, scratch {scratch_bytes}\n")
    for model in models:
        model.close()
    del models, model
    assert everything_is_back(one_gpu)


def test_scratch_grows_while_graphs_exist_and_shrinks_when_the_largest_leaves(
    gpu: FakeGpu, seeing: Seeing, build: Build
) -> None:
    """A graph that was captured before the block moved would write into freed memory, which breaks the context."""
    picture = pictures(1)[0]
    small, large = seeing("small"), seeing("large", imgsz=256, hidden=64)
    load_small, load_large = loader(small, build), loader(large, build)
    first = load_small()
    expected = first.infer(picture)
    before_bytes = pool_of(gpu).used_by(SCRATCH)
    second = load_large()
    grown_bytes = pool_of(gpu).used_by(SCRATCH)
    assert grown_bytes > before_bytes
    captures = gpu.cuda.captures
    assert _same(first.infer(picture), expected)
    assert _same(first.infer(picture), expected)
    assert gpu.cuda.captures == captures + 1  # the request that inferred, once
    second.infer(picture)
    second.close()
    del second
    assert pool_of(gpu).used_by(SCRATCH) == before_bytes
    assert _same(first.infer(picture), expected)
    first.close()
    del first
    assert everything_is_back(gpu)


def test_a_load_without_room_for_scratch_leaves_the_others_served(seeing: Seeing, build: Build) -> None:
    small, large = seeing("small"), seeing("large", imgsz=256, hidden=64)
    with installed("10.3.0", FakeCuda()) as gpu:
        build(small), build(large)
    with installed("10.3.0", FakeCuda(), partial(DevicePool, 400_000)) as gpu:
        folder = Path(small.path).parent
        opened = {one.name: _opened(folder, one) for one in (small, large)}
        first = backends.restore(small, opened["small"], COMPUTE, Path())
        expected, used_bytes = first.infer(pictures(1)[0]), pool_of(gpu).used_bytes
        with pytest.raises(OutOfDeviceMemoryError):
            backends.restore(large, opened["large"], COMPUTE, Path())
        gc.collect()
        assert pool_of(gpu).used_bytes == used_bytes
        assert gpu.cuda.most_bytes <= 400_000
        assert _same(first.infer(pictures(1)[0]), expected)
        first.close()
        del first
        assert everything_is_back(gpu)


def _opened(folder: Path, version: ModelVersion) -> Opened:
    from agent.inference.artifacts.artifact_store import Made  # noqa: PLC0415 - for this test alone
    from agent.inference.backends.tensorrt import reference  # noqa: PLC0415 - over the fake

    facts, head = reference.facts_of(version)
    return Opened.made(folder / f"{version.name}-1-f32", Made("model.plan", facts, head.imgsz, head.shapes))


def test_memory_that_ends_at_any_allocation_is_a_clean_refusal(
    one_gpu: FakeGpu, entry: ModelVersion, build: Build
) -> None:
    load = loader(entry, build)
    before = one_gpu.cuda.allocations
    model = load()
    needed = one_gpu.cuda.allocations - before
    model.close()
    del model
    assert needed >= 6  # weights, context, scratch, and two tensors of each request
    for number in range(1, needed + 1):
        one_gpu.cuda.fails_at = one_gpu.cuda.allocations + number
        with pytest.raises(OutOfMemoryError):
            load()
        gc.collect()
        assert everything_is_back(one_gpu), number
    one_gpu.cuda.fails_at = None
    model = load()
    assert len(model.infer(pictures(1)[0]))
    model.close()


def test_a_broken_capture_costs_one_graph_and_no_frame(gpu: FakeGpu, entry: ModelVersion, build: Build) -> None:
    load = loader(entry, build)
    picture = pictures(1)[0]
    gpu.cuda.when_capturing.append(lambda stream: _from_another_thread(gpu.cuda.invalidate, stream))
    model = load()
    launches = gpu.cuda.launches
    first = model.infer(picture)
    assert len(first)
    assert gpu.cuda.launches == launches
    gpu.cuda.when_capturing.clear()
    assert _same(model.infer(picture), first)
    assert gpu.cuda.launches == launches + 1
    model.close()


def _from_another_thread(do: Callable[[int], None], stream: int) -> None:
    thread = threading.Thread(target=do, args=(stream,))
    thread.start()
    thread.join()


def test_what_can_never_be_captured_is_not_tried_with_each_frame(
    gpu: FakeGpu, entry: ModelVersion, build: Build
) -> None:
    load = loader(entry, build)
    gpu.cuda.when_capturing.append(gpu.cuda.invalidate)
    model = load()
    for _ in range(8):
        model.infer(pictures(1)[0])
    captures = gpu.cuda.captures
    model.infer(pictures(1)[0])
    assert gpu.cuda.captures == captures
    model.close()


@pytest.mark.parametrize("code", [700, 719, ECC_UNCORRECTABLE])
def test_a_broken_context_ends_the_worker_with_a_word(
    one_gpu: FakeGpu, entry: ModelVersion, build: Build, code: int
) -> None:
    model = loader(entry, build)()
    words: list[str] = []
    when_lost(words.append)
    one_gpu.cuda.broken = code
    with pytest.raises(DeviceLostError, match=f"CUDA error {code}"):
        model.infer(pictures(1)[0])
    assert words
    assert "a new worker is needed" in words[0]


@pytest.mark.usefixtures("gpu")
def test_two_streams_share_the_scratch_block_in_turn(seeing: Seeing, build: Build) -> None:
    """The fake breaks the context where two inferences that nothing orders use the same memory."""
    picture = pictures(1)[0]
    models = [loader(seeing(f"m{seed}", seed=seed), build)() for seed in range(2)]
    expected = [model.infer(picture) for model in models]
    failed: list[BaseException] = []

    def infer(model: Model, want: backends.Objects, *, as_load: bool) -> None:
        try:
            for _ in range(20):
                assert _same(model.check_outputs(picture) if as_load else model.infer(picture), want)
        except BaseException as error:  # noqa: BLE001 - told by the test
            failed.append(error)

    threads = [
        threading.Thread(target=infer, args=(model, want), kwargs={"as_load": as_load})
        for model, want in zip(models, expected, strict=True)
        for as_load in (True, False)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    for model in models:
        model.close()


def test_churn_stays_within_the_budget_at_every_moment(seeing: Seeing, build: Build) -> None:
    """Random loads, frames, warm-ups, refusals and releases: the pool counts what the GPU gave out, byte by byte."""
    dice = random.Random(16)
    versions = [seeing(f"m{seed}", seed=seed, hidden=64 << seed, imgsz=64 if seed % 2 else 128) for seed in range(6)]
    with installed("10.3.0", FakeCuda()):
        for version in versions:
            build(version)
    limit_bytes = 900_000
    with installed("10.3.0", FakeCuda(), partial(DevicePool, limit_bytes)) as gpu:
        opened = [_opened(Path(version.path).parent, version) for version in versions]
        expected: dict[str, backends.Objects] = {}
        resident: dict[int, Model] = {}
        picture, refused = pictures(1)[0], 0
        for _ in range(400):
            chosen = dice.randrange(len(versions))
            if chosen in resident and dice.random() < 0.4:
                resident.pop(chosen).close()
            elif chosen in resident:
                reference = versions[chosen].reference
                answer = resident[chosen].infer(picture)
                assert _same(answer, expected.setdefault(reference, answer))
            else:
                if dice.random() < 0.1:
                    gpu.cuda.fails_at = gpu.cuda.allocations + dice.randrange(1, 8)
                try:
                    resident[chosen] = backends.restore(versions[chosen], opened[chosen], COMPUTE, Path())
                except OutOfMemoryError:
                    refused += 1
                    gc.collect()
                gpu.cuda.fails_at = None
            assert pool_of(gpu).used_bytes == gpu.cuda.used_bytes
        assert refused > 5
        assert gpu.cuda.most_bytes <= limit_bytes
        for model in resident.values():
            model.close()
        resident.clear()
        del model
        gc.collect()
        assert everything_is_back(gpu)


def _same(want: backends.Objects, got: backends.Objects) -> bool:
    return len(want) == len(got) > 0 and bool(
        np.allclose(want.boxes, got.boxes) and np.allclose(want.scores, got.scores)
    )
