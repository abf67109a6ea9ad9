"""Backend for ultralytics: `.pt`, `.engine` and its other formats. Torch is imported at the first load.

Only ultralytics' loader and forward pass are used; letterbox and decoding are the same for every backend.
"""

import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Final

from agent.inference.backends.detector import Detector, Untyped
from agent.inference.backends.errors import ProcessorError, loading
from agent.inference.processors.compute import card_faults, has_gpu, split
from agent.inference.yolo.head import Head, Raw
from agent.inference.yolo.letterbox import Canvas
from agent.inference.yolo.metadata import FileFacts, agreed_imgsz, read_facts
from agent.messages.errors import ModelError
from agent.messages.payloads import ModelProcessor
from agent.messages.references import ModelVersion
from agent.processes.package_version import version_of

_ENVIRONMENT: Final = {
    "ULTRALYTICS_SAFE_LOAD": "true",  # a .pt file is a pickle: only classes of torch and ultralytics
    "YOLO_AUTOINSTALL": "false",  # it would pip-install what a checkpoint names
    "YOLO_VERBOSE": "false",
    "YOLO_OFFLINE": "true",  # no usage events, no look for updates
}
_SAFE_SINCE: Final = (2, 6)  # because ultralytics' safe load has no effect with an older torch
_MULTIPLE: Final = 32
_PROTOTYPES: Final = 4  # sides: batch, prototypes, rows, columns
_ENGINE: Final = ".engine"
_NO_TENSORRT: Final = "no TensorRT for a .pt that is opened as it is (leave `backend` and `unsafe` out)"
_EXTRA: Final = "a .pt or .engine file needs the extra: pip install 'changeover[ultralytics]'"


def load(version: ModelVersion, compute: str, cache_dir: Path) -> Detector:
    """Load a file of any format of ultralytics; see `backends.load`. The load includes the first inference."""
    torch, auto_backend = import_ultralytics(cache_dir)
    with loading(version):
        device = torch.device(_device(torch, version, compute))
        share = _Share(torch, device)
        network = auto_backend(version.path, device=device, fuse=True, verbose=False)
        network.eval()
        processor = _processor(torch, network, compute)
        facts = _facts(network)
        imgsz = _input_size(version, network, facts)
        make_request = partial(_Request, torch, network, device, imgsz, threading.Lock())
        head = Head.of(version, facts, [one.shape for one in make_request().run()], imgsz)
        share.measure(is_counted=network.format == "pt")
    return Detector(
        "ultralytics",
        head,
        imgsz,
        make_request,
        processor=processor,
        on_close=partial(_return_memory, torch, share),
        count_device=share,
    )


def held_device_bytes() -> int:
    """Return the bytes of GPU memory that torch's allocator holds: tensors, and freed blocks kept for reuse."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return 0
    return sum(int(cuda.memory_reserved(index)) for index in range(cuda.device_count()))


def exporter(folder: Path) -> Callable[[Path, int | None, int], Path]:
    """Return a function that exports a checkpoint to ONNX; ultralytics keeps its settings in `folder`.

    The function takes the checkpoint, the input's side in pixels (None: the checkpoint's own) and the opset; it returns
    the ONNX file, which is beside the checkpoint. Raises ModelError where a library is missing.
    """
    import_ultralytics(folder)
    try:
        import onnx  # noqa: F401, PLC0415 - ultralytics would look for it late, and say little
        from ultralytics import YOLO  # noqa: PLC0415 - only when a model needs it
    except ImportError as error:
        raise ModelError("load_failed", f"{_EXTRA} ({error})") from error

    def export(checkpoint: Path, imgsz: int | None, opset: int) -> Path:
        size = {"imgsz": imgsz} if imgsz else {}
        return Path(YOLO(checkpoint).export(format="onnx", opset=opset, simplify=False, device="cpu", **size))

    return export


@cache
def import_ultralytics(cache_dir: Path) -> tuple[Untyped, Untyped]:
    """Import torch and ultralytics once, with safe load and without network; return torch and AutoBackend.

    Raises ModelError("load_failed") where they are missing, too old, or were imported without safe load before.
    """
    os.environ.update(_ENVIRONMENT)
    os.environ.setdefault("YOLO_CONFIG_DIR", str(cache_dir))
    try:
        import torch  # noqa: PLC0415 - first, as ultralytics would hold it to one thread; and only when needed
        from ultralytics import utils  # noqa: PLC0415 - only when a model needs it
        from ultralytics.nn.autobackend import AutoBackend  # noqa: PLC0415 - only when a model needs it
    except ImportError as error:
        raise ModelError("load_failed", f"{_EXTRA} ({error})") from error
    release = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if release < _SAFE_SINCE:
        raise ModelError("load_failed", f"torch {torch.__version__} cannot load a .pt file safely: 2.6 or newer can")
    if not utils.SAFE_LOAD or utils.AUTOINSTALL or utils.ONLINE:
        raise ModelError(
            "load_failed", "ultralytics was imported without safe load and offline mode; restart the worker"
        )
    gc.freeze()  # because each collection would hold the GIL for 140 ms
    return torch, AutoBackend


class _Request:
    """A canvas, with the network that all requests of a model share under a lock."""

    def __init__(
        self,
        torch: Untyped,
        network: Untyped,
        device: Untyped,
        imgsz: tuple[int, int],
        lock: threading.Lock,
    ) -> None:
        self.canvas: Canvas = Canvas(imgsz)
        self._torch: Final = torch
        self._network: Final = network
        self._device: Final = device
        self._lock: Final = lock

    def run(self, *, here: bool = False) -> Raw:
        del here  # because torch always computes with the calling thread
        with self._lock, self._torch.inference_mode():
            pixels = self._torch.from_numpy(self.canvas.pixels).to(self._device)
            answer = self._network(pixels.permute(2, 0, 1).flip(0)[None].float() / 255)
            return tuple(one.float().cpu().numpy() for one in _outputs(self._torch, answer))


def _outputs(torch: Untyped, answer: Untyped) -> Iterator[Untyped]:
    """Yield the tensors that an exported graph would output: the first is all, unless prototypes of masks follow it.

    A checkpoint's network answers ((objects, prototypes), what training needs) or (objects, what training needs), and
    an exported one [objects, prototypes] or objects.
    """
    parts = answer if isinstance(answer, list | tuple) else (answer,)
    if isinstance(parts[0], list | tuple):
        parts = parts[0]
    yield parts[0]
    if len(parts) > 1 and isinstance(parts[1], torch.Tensor) and parts[1].ndim == _PROTOTYPES:
        yield parts[1]


class _Share:
    """Measures the GPU memory that torch allocated for one model; no other model may load meanwhile."""

    def __init__(self, torch: Untyped, device: Untyped) -> None:
        self._torch: Final = torch
        self._device: Final = device
        self._before_bytes: Final = self._allocated_bytes()
        self._bytes: int | None = 0

    def __call__(self) -> int | None:
        return self._bytes

    def measure(self, *, is_counted: bool) -> None:
        """Store the bytes allocated on a GPU since the construction, or None where `is_counted` is False.

        Files in formats other than torch's own allocate by themselves, which nothing counts.
        """
        if self._device.type == "cuda":
            self._bytes = max(0, self._allocated_bytes() - self._before_bytes) if is_counted else None

    def close(self) -> None:
        self._bytes = 0

    def _allocated_bytes(self) -> int:
        return int(self._torch.cuda.memory_allocated(self._device)) if self._device.type == "cuda" else 0


def _device(torch: Untyped, version: ModelVersion, compute: str) -> str:
    """Return torch's name of the processor that `compute` names. Raises ProcessorError where it cannot start."""
    kind, index = split(compute)
    is_engine = Path(version.path).suffix.lower() == _ENGINE
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cpu" and is_engine:
        found = tuple(_torch_faults(torch, index)) or ("an .engine runs on a GPU only",)
        raise ProcessorError(version.reference, compute, found)
    if kind == "tensorrt" and not is_engine:
        raise ProcessorError(version.reference, compute, (_NO_TENSORRT,))
    if kind == "cpu":
        return "cpu"
    if found := tuple(_torch_faults(torch, index)):
        raise ProcessorError(version.reference, compute, found)
    return f"cuda:{index}"


def _torch_faults(torch: Untyped, index: int) -> Iterator[str]:
    """Yield each reason why torch cannot use GPU `index`."""
    if torch.version.cuda is None:
        yield "CPU wheel of torch"
    elif torch.cuda.is_available() and index < torch.cuda.device_count():
        return
    found = card_faults(index)
    yield from found
    if not found and torch.version.cuda is not None:
        yield f"no card {index} that torch {torch.__version__} can use"


def _processor(torch: Untyped, network: Untyped, wanted: str) -> ModelProcessor:
    """Return the processor that a network is on."""
    device = network.device
    is_cpu = device.type == "cpu"
    name = "cpu" if is_cpu else f"{device.type}:{device.index or 0}"
    missing = "; ".join(_torch_faults(torch, 0)) if is_cpu and wanted == "auto" and has_gpu() else None
    library = "TensorRT" if network.format == "engine" else f"torch {torch.__version__}"
    return ModelProcessor(name, "ultralytics", version_of("ultralytics") or "", library, missing)


def _facts(network: Untyped) -> FileFacts:
    """Read an exported file's metadata, or derive it from a checkpoint's network."""
    if network.format != "pt":
        said = dict(network.metadata)
        return read_facts(said | {"names": said.get("names") and network.names})
    model = network.backend.model
    trained = getattr(model, "args", None)
    return read_facts(
        {
            "names": network.names,
            "imgsz": getattr(network, "imgsz", None) or (trained.get("imgsz") if isinstance(trained, dict) else None),
            "task": network.task or getattr(model, "task", None),
            "end2end": bool(network.end2end),
            "head": type(model.model[-1]).__name__,
            "kpt_shape": getattr(model.model[-1], "kpt_shape", None),
            "kpt_names": getattr(model, "kpt_names", None),
        }
    )


def _input_size(version: ModelVersion, network: Untyped, facts: FileFacts) -> tuple[int, int]:
    free = network.format == "pt" or network.dynamic
    imgsz = agreed_imgsz(version, facts, None if free else facts.imgsz)
    if any(side % _MULTIPLE for side in imgsz):
        raise ModelError(
            "load_failed", f"{version.reference}: imgsz is {imgsz[0]}, and must be a multiple of {_MULTIPLE}"
        )
    return imgsz


def _return_memory(torch: Untyped, share: _Share) -> None:
    share.close()
    gc.collect()  # modules hold each other in cycles
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
