"""Finds and inspects all files of one model, without its runtime."""

import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion
from agent.models import ir_file, onnx_file
from agent.models.literals import MOST_CHARACTERS, read_literal, read_names
from agent.models.onnx_file import FILLED, OPEN, Port

_HEAD_BYTES: Final = 512
_STRIDE: Final = 32
_SIDECAR_BYTES: Final = 2 * MOST_CHARACTERS  # because the YAML reader takes a hundred times the memory
_PICTURE_SIDES: Final = 4
_COLOURS: Final = 3
_LARGEST_SIDE: Final = 8192
_GRAPHS: Final = (".onnx", ".xml")
_CODE: Final = (".pt", ".engine")
SIGNATURE_SUFFIX: Final = ".minisig"
"""Suffix of a signature's file, behind the name of the file that it signs."""
METADATA: Final = "metadata.yaml"
_CONTROLS: Final = re.compile(rb"[^\t\n\r\x20-\x7e]")
_ZIP: Final = b"PK\x03\x04"
_PICKLES: Final = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_PLANS: Final = (b"ftrt", b"ptrt")
"""First bytes of a TensorRT plan: of version 8.5 or later, and of an earlier one."""
_LENGTH_BYTES: Final = 4
_MOST_METADATA_BYTES: Final = 1 << 20
_SMALLEST_PLAN_BYTES: Final = 4096
"""A plan below this size is cut, because kernels and weights of the smallest network take more."""

# Beginnings of what downloads leave instead of a model.
_STRANGERS: Final = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the model: fetch it with `git lfs pull`"),
    (b"<!doctype html", "is an HTML page, not a model: what was downloaded is a web page (a login, an error?)"),
    (b"<html", "is an HTML page, not a model: what was downloaded is a web page (a login, an error?)"),
    (b"{", "is a JSON text, not a model: what was downloaded is a server's answer"),
    (b"\x1f\x8b", "is a gzip archive: unpack it first"),
    (b"7z\xbc\xaf", "is a 7z archive: unpack it first"),
    (b"rar!", "is a RAR archive: unpack it first"),
)


@dataclass(frozen=True)
class Inspected:
    """Result of an inspection of a model's files."""

    has_names: bool | None
    """True where the files contain the class names; None where only the runtime can tell."""
    companions: tuple[str, ...] = ()
    """Names of the further files that a runtime reads, as `companions` returns them."""


def companions(path: Path) -> tuple[str, ...]:
    """Return the names of the further files that a runtime reads with `path`, relative to its folder.

    Raises ModelError where `path` is invalid or names a file outside its folder, and OSError where `path` cannot be
    read.
    """
    suffix = path.suffix.lower()
    if suffix == ".xml":
        sidecar = sidecar_of(path)
        return (path.with_suffix(".bin").name, *((sidecar.name,) if sidecar else ()))
    if suffix != ".onnx":
        return ()
    return _read_onnx(path).external


def _read_onnx(path: Path) -> onnx_file.OnnxFile:
    """Parse an ONNX file. Raises ModelError where it is invalid or names a file outside its folder, and OSError."""
    try:
        found = onnx_file.read(path)
    except onnx_file.NotOnnxError as error:
        raise ModelError("load_failed", f"{path} {error}") from None
    for name in found.external:
        if not is_inside(name) or name == path.name:
            raise ModelError("load_failed", f"{path} keeps weights in {name!r}, which is no file beside it")
    return found


def is_plain_graph(path: Path) -> bool:
    """Return True for an .onnx or .xml whose name no runtime can mistake for .pt or .engine, which may run code."""
    name = path.name.lower()
    return name.endswith(_GRAPHS) and not any(code in name for code in _CODE)


def sidecar_of(path: Path) -> Path | None:
    """Return the YAML metadata file beside an .xml, as ultralytics or else YOLOv5 names it; None without one."""
    return next((file for file in (path.parent / METADATA, path.with_suffix(".yaml")) if file.is_file()), None)


def is_inside(name: str) -> bool:
    """Return True where a relative path stays inside its folder."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def undeclared(version: ModelVersion, names: Iterable[str]) -> tuple[str, ...]:
    """Return the `names` for which the version's entry has no sha256."""
    declared = {file.name for file in version.files}
    return tuple(name for name in names if name not in declared)


def inspect(path: Path, *, is_tensors: bool = False) -> Inspected:
    """Check that a model's files are complete, and that the model takes one picture, or any inputs with `is_tensors`.

    Raises ModelError, worded for a user, where they are not, and OSError where a file cannot be read.
    """
    require_kind(path)
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return _inspect_onnx(path, is_tensors=is_tensors)
    if suffix == ".xml":
        return _inspect_ir(path, is_tensors=is_tensors)
    if suffix == ".pt":
        _inspect_checkpoint(path)
    return Inspected(None)


def require_kind(path: Path) -> None:
    """Raise ModelError where a file is empty or contradicts its suffix, and OSError where it cannot be read."""
    if path.stat().st_size == 0:
        raise ModelError("load_failed", f"{path} is empty")
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    stranger = _stranger(head, path.suffix.lower())
    if stranger:
        raise ModelError("load_failed", f"{path} {stranger}")


def _stranger(head: bytes, suffix: str) -> str | None:
    """Describe the kind of a file by its first bytes; None where they do not contradict the suffix."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for beginning, words in _STRANGERS:
        if start.startswith(beginning):
            return words
    return _other_kind(head, start, suffix)


def _other_kind(head: bytes, start: bytes, suffix: str) -> str | None:
    is_pickle = head.startswith((_ZIP, *_PICKLES))
    if suffix != ".pt" and is_pickle:
        return f"is no {suffix} file but a PyTorch checkpoint or a zip: name it .pt, or export it"
    if suffix != ".xml" and start.startswith((b"<?xml", b"<net")):
        return f"is no {suffix} file but an XML text: an OpenVINO model is added by its .xml, or a storage's error came"
    if suffix in {".onnx", ".pt"} and head.isascii() and not _CONTROLS.search(head):
        return "is a text, not a model: look into it, and copy or download the model again"
    if suffix == ".pt" and not is_pickle:
        return "is no PyTorch checkpoint: it begins as neither a zip nor a pickle"
    if head[4:8] == b"TFL3":
        return "is a TensorFlow Lite model: export it to ONNX"
    return None


def _inspect_onnx(path: Path, *, is_tensors: bool) -> Inspected:
    found = _read_onnx(path)
    for name in found.external:
        if not (path.parent / name).is_file():
            raise ModelError("file_missing", f"{path} keeps weights in {name}, which is not beside it")
    taken = [port for port in found.inputs if port.name not in FILLED]
    if not is_tensors:
        _require_picture(path, taken, _stride(found.metadata))
    return Inspected(bool(read_names(found.metadata.get("names"))), found.external)


def _inspect_ir(path: Path, *, is_tensors: bool) -> Inspected:
    try:
        found = ir_file.read(path)
    except ir_file.NotIrError as error:
        raise ModelError("load_failed", f"{path} {error}") from None
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise ModelError("file_missing", f"{path} needs {weights.name} beside it, which holds its weights")
    there_bytes = weights.stat().st_size
    if there_bytes < found.weights_bytes:
        whole = f"{there_bytes / 1e6:.1f} of {found.weights_bytes / 1e6:.1f} MB are there"
        raise ModelError("load_failed", f"{weights} is cut: {whole}")
    sidecar = sidecar_of(path)
    facts = read_sidecar(sidecar) if sidecar else {}
    taken = [Port("", tuple(OPEN if side is None else side for side in sides)) for sides in found.inputs]
    if not is_tensors:
        _require_picture(path, taken, _stride(facts))
    has_names = bool(read_names(facts.get("names"))) if sidecar else found.has_names
    return Inspected(has_names, companions(path))


def read_sidecar(path: Path) -> dict[str, Any]:
    """Read the YAML metadata beside a model. Raises ModelError for invalid or too long YAML, and OSError."""
    import yaml  # type: ignore[import-untyped] # noqa: PLC0415 - only such an export needs it

    try:
        if path.stat().st_size > _SIDECAR_BYTES:
            raise ModelError("load_failed", f"{path} is longer than {_SIDECAR_BYTES >> 10} KiB")
        facts = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError):
        raise ModelError("load_failed", f"{path} is no YAML: export the model again") from None
    return facts if isinstance(facts, dict) else {}


def _inspect_checkpoint(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(len(_ZIP)) != _ZIP:
            return  # a pickle as torch wrote it before 1.6: only its reader can tell where it ends
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        size = f"{path.stat().st_size / 1e6:.1f} MB are there"
        raise ModelError("load_failed", f"{path} is cut: its end is missing ({size}); fetch it again") from None
    if any("/code/" in f"/{name}" for name in names):
        raise ModelError("load_failed", f"{path} is a TorchScript file: export the checkpoint to ONNX")
    if not any(name.endswith("data.pkl") for name in names):
        raise ModelError("load_failed", f"{path} is a zip, but no PyTorch checkpoint")


def require_plan(path: Path) -> None:
    """Raise ModelError where an .engine is no TensorRT plan, alone or behind the metadata that ultralytics writes."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_LENGTH_BYTES)
        metadata_bytes = int.from_bytes(head, "little", signed=True)
        if head not in _PLANS and 0 < metadata_bytes <= min(size_bytes, _MOST_METADATA_BYTES):
            facts = file.read(metadata_bytes).lstrip()
            head = file.read(_LENGTH_BYTES) if facts.startswith(b"{") else b""
    if head not in _PLANS:
        raise ModelError(
            "load_failed", f"{path} is no TensorRT plan: it does not begin as one; build it with trtexec or ultralytics"
        )
    if size_bytes < _SMALLEST_PLAN_BYTES:
        raise ModelError("load_failed", f"{path} is cut: a TensorRT plan has more than {size_bytes} bytes")


def _require_picture(path: Path, inputs: Sequence[Port], stride: int) -> None:
    if len(inputs) != 1:
        names = ", ".join(port.name for port in inputs if port.name)
        what = f"{path} takes {len(inputs)} inputs{names and f' ({names})'}, expected one picture"
        raise ModelError("load_failed", f"{what}; {' and '.join(sorted(FILLED))} may stand beside it")
    sides = inputs[0].sides
    if len(sides) != _PICTURE_SIDES:
        raise ModelError("load_failed", f"{path} takes {_shown(sides)}, expected a picture of (1, 3, height, width)")
    batch, channels, height, width = sides
    if channels not in {_COLOURS, OPEN}:
        if width == _COLOURS:
            raise ModelError("load_failed", f"{path} takes {_shown(sides)}, colours last (NHWC): export it as NCHW")
        raise ModelError("load_failed", f"{path} takes {channels} channels, expected a picture of {_COLOURS} colours")
    if batch not in {1, OPEN}:
        raise ModelError("load_failed", f"{path} takes {batch} pictures at once: export it with batch=1")
    expected = f"sides of at most {_LARGEST_SIDE}, each a multiple of {stride}"
    for side in (height, width):
        if side != OPEN and (not 0 < side <= _LARGEST_SIDE or side % stride):
            raise ModelError("load_failed", f"{path} takes {_shown((height, width))}, expected {expected}")


def _shown(sides: Sequence[int]) -> str:
    return f"({', '.join('?' if side == OPEN else str(side) for side in sides)})"


def _stride(facts: dict[str, Any]) -> int:
    """Return the stride that the metadata state; a file without any is no YOLO, and any size may be its own."""
    value = read_literal(facts.get("stride"))  # not its text, which YAML's aliases can make of any length
    if isinstance(value, int) and 0 < value <= 1 << 10:
        return value
    return _STRIDE if facts else 1
