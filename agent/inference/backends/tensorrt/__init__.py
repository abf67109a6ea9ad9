"""Backend for TensorRT on NVIDIA GPUs: engines that a sandboxed process built for this device.

Tested with stand-ins only, never on a GPU. Imports `tensorrt`, which JetPack brings. The worker never builds an engine;
see `choice` for what serves until one is built.
"""

import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import tensorrt as trt
from numpy.typing import NDArray

from agent.files import replace_file
from agent.inference.artifacts.artifact_store import Made, Opened
from agent.inference.artifacts.profile import Profile
from agent.inference.backends.alike import require_alike
from agent.inference.backends.choice import ENGINE_PRECISIONS
from agent.inference.backends.detector import Detector
from agent.inference.backends.engine_build import walled_build
from agent.inference.backends.engine_build.request import BUILT, GRAPH, TIMINGS, EngineRequest, Precision
from agent.inference.backends.errors import loading
from agent.inference.backends.tensorrt import plan, reference
from agent.inference.backends.tensorrt.engine import Engine, Request
from agent.inference.cuda.device import DEVICES
from agent.inference.cuda.errors import CudaError
from agent.inference.cuda.identity import Identity, identity_of
from agent.inference.processors.compute import split
from agent.inference.sandbox import Limits
from agent.inference.yolo.head import Head, Layout
from agent.inference.yolo.suppression.best import best
from agent.messages.errors import ModelError
from agent.messages.payloads import ModelProcessor
from agent.messages.references import ModelVersion

_LOG: Final = logging.getLogger(__name__)
_PLAN: Final = "model.plan"
_FOLDER: Final = "tensorrt"
"""Folder, in the cache folder, of TensorRT's timing caches."""
_HEADS: Final = {Layout.ANCHORS: "anchors", Layout.OBJECTNESS: "objectness"}
_WORKSPACE_BYTES: Final = 1 << 30
_CPU_S: Final = 4 * 3600
_WALL_S: Final = 3600.0
_DISK_BYTES: Final = 512 << 20
_MOST_TIMINGS_BYTES: Final = 64 << 20


def load(version: ModelVersion, compute: str, cache_dir: Path) -> Detector:
    """Raise ModelError, because a graph file must be built to an engine first, by `models prepare`."""
    del compute, cache_dir
    raise ModelError("load_failed", f"{version.reference}: its engine is not built: `changeover models prepare`")


def load_for(version: ModelVersion, compute: str, precision: str) -> Detector:
    """Load a graph file on the CPU as the reference for an engine's outputs; see `backends.load_for`."""
    del compute, precision
    return reference.load(version)


def precisions(compute: str) -> tuple[str, ...]:
    """Return the precisions of an engine; see `backends.precisions`."""
    del compute
    return ENGINE_PRECISIONS


def make(  # noqa: PLR0913 - see `backends.make`
    version: ModelVersion,
    compute: str,
    folder: Path,
    precision: str = "",
    *,
    tell: Callable[[str], None] = lambda _: None,
    cache_dir: Path | None = None,
) -> Made:
    """Have an engine built in `folder` by the sandboxed process, and compare its outputs; see `backends.make`.

    `cache_dir` keeps the timings of layers for the next engine of this device. `tell` is called with the progress.
    """
    index = split(compute)[1]
    gpu = identity_of(index)
    wanted: Precision = "f16" if precision == "f16" else "f32"
    with loading(version):
        facts, head = reference.facts_of(version)
        if head.task != "detect":
            what = f'a {head.task} model; engines are of detection models only: set compute = "cuda:{index}" or "cpu"'
            raise ModelError("load_failed", f"{version.reference}: {what}")
        if head.pack is not None or head.pixels.is_normed:
            what = "TensorRT is given neither split outputs nor a mean and std here"
            raise ModelError("load_failed", f'{version.reference}: {what}: give it backend = "onnxruntime"')
        room = folder / "build"
        room.mkdir()
        _bring(version, room)
        timings = _timings(cache_dir, gpu)
        if timings is not None and timings.exists() and timings.stat().st_size <= _MOST_TIMINGS_BYTES:
            shutil.copyfile(timings, room / TIMINGS)
        size_bytes = sum(file.stat().st_size for file in room.iterdir())
        asked = EngineRequest(
            folder=str(room),
            imgsz=head.imgsz,
            takes_bytes=head.pixels.takes_bytes,
            takes_bgr=head.takes_bgr,
            head=_HEADS.get(head.layout, ""),
            precision=wanted,
            gpu=index,
            workspace_bytes=_workspace_bytes(),
            parent=os.getpid(),
            limits=Limits(0, _CPU_S, _WALL_S, _DISK_BYTES + 8 * size_bytes),
            is_trusted=version.unsafe,
        )
        answer = walled_build.build(version.reference, asked, tell)
        built_for = plan.BuiltFor(answer.tensorrt, gpu.sm, gpu.driver, answer.candidates)
        plan.write(folder / _PLAN, built_for, room / BUILT)
        if timings is not None:
            _keep_timings(room / TIMINGS, timings)
        shutil.rmtree(room)
        made = Made(_PLAN, facts, head.imgsz, head.shapes, Profile(wanted))
        engine = restore(head, Opened.made(folder, made), compute, folder)
        require_alike(version, reference.load(version), engine, _reduction(head, answer.candidates))
    return made


def restore(head: Head, opened: Opened, compute: str, cache_dir: Path) -> Detector:
    """Load an engine that `make` had built, with the options of its profile.

    Raises PlanRefusedError for an engine of another TensorRT, GPU or driver, and any exception of the runtime.
    """
    del cache_dir
    index = split(compute)[1]
    gpu = identity_of(index)
    built_for, bytes_ = plan.read(opened.mapped.array, trt.__version__, gpu.sm, gpu.driver)
    try:
        device = DEVICES.open(index)
        with opened.mapped.dropping_pages():
            engine = Engine(head.reference, bytes_, device)
    except CudaError as error:  # the engine is sound, and the GPU is not
        raise ModelError("load_failed", f"{head.reference}: {error}") from error
    return Detector(
        "tensorrt",
        replace(head, candidates=built_for.candidates),
        head.imgsz,
        partial(Request, engine, head.imgsz),
        processor=ModelProcessor(f"tensorrt:{index}", "tensorrt", trt.__version__, gpu.name),
        profile=opened.artifact.profile,
        count_device=partial(device.pool.used_by, head.reference),
    )


def held_device_bytes() -> int:
    """Return the GPU memory in bytes that engines and their scratch blocks hold in this process."""
    return DEVICES.used_bytes()


def _reduction(head: Head, count: int) -> Callable[[NDArray[np.floating]], NDArray[np.float32]] | None:
    return partial(best, layout=head.layout, count=count) if count else None


def _bring(version: ModelVersion, room: Path) -> None:
    """Copy the graph and the files of its weights into the folder that the sandboxed process may read."""
    source = Path(version.path)
    shutil.copyfile(source, room / GRAPH)
    for file in version.files:
        target = room / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.parent / file.name, target)


def _timings(cache_dir: Path | None, gpu: Identity) -> Path | None:
    """Return the file of the timing cache for this TensorRT and GPU."""
    return cache_dir / _FOLDER / f"timings-{trt.__version__}-sm{gpu.sm}.bin" if cache_dir else None


def _keep_timings(built: Path, kept: Path) -> None:
    """Keep the timing cache of a build; without it the next build takes longer, and nothing else is lost."""
    try:
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(kept, built.read_bytes(), sync=False)
    except OSError as error:
        _LOG.warning("event=timings_not_kept file=%s error=%r", kept, str(error))


def _workspace_bytes() -> int:
    """Return a limit for one operation's workspace in bytes: a quarter of the free host memory, at most a GiB."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    free_bytes = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    return min(_WORKSPACE_BYTES, free_bytes // 4)
