"""Faults in the files of a model version, each described together with its remedy."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from errno import EISDIR, ENOENT
from pathlib import Path
from typing import Final

from agent.files import file_sha256
from agent.messages.errors import ModelError, Reason
from agent.messages.references import ModelVersion
from agent.models import model_files
from agent.redact import redact

_RENEW: Final = "remove the entry, and `changeover models add` the model again"


@dataclass(frozen=True)
class Fault:
    """A fault in one file of a model: found and expected state, worded for users."""

    reason: Reason
    key: tuple[str, ...]
    """Path of the faulty key in the version's catalog entry."""
    found: str
    wanted: str
    """The expected state, with the command that restores it."""

    def as_error(self, version: ModelVersion) -> ModelError:
        """Return the error that refuses a load of `version` because of this fault."""
        return ModelError(self.reason, f"{version.reference}: found {self.found}, expected {self.wanted}")


def mismatch(version: ModelVersion) -> ModelError | None:
    """Return the error for a version's first file that is missing, altered or has no sha256; None without one."""
    fault = next(differing(version), None)
    return fault.as_error(version) if fault else None


def verify(version: ModelVersion) -> None:
    """Hash all files of the version; raise ModelError for a missing or altered one, or one without a sha256."""
    error = mismatch(version)
    if error is not None:
        raise error


def require_sound(version: ModelVersion) -> None:
    """Raise ModelError where a version's files are incomplete, are no usable model or lack a sha256.

    Reads the file once, because frames wait for the GIL while a large one is read.
    """
    found = _inspected(version)
    for fault in (found,) if isinstance(found, Fault) else _without_sha256(version, found.companions):
        raise fault.as_error(version)


def differing(version: ModelVersion) -> Iterator[Fault]:
    """Hash all files of the version; yield a fault for each that is missing, altered or has no sha256."""
    path = Path(version.path)
    faults = [_compared(version, path.parent / name, sha256) for name, sha256 in _named(version)]
    yield from (fault for fault in faults if fault)
    if faults[0] is None:
        yield from _undeclared(version)


def unsound(version: ModelVersion) -> Iterator[Fault]:
    """Yield a fault where a version's files are incomplete or no usable model; verify their sha256 before."""
    found = _inspected(version)
    if isinstance(found, Fault):
        yield found


def _inspected(version: ModelVersion) -> model_files.Inspected | Fault:
    try:
        return model_files.inspect(Path(version.path), is_tensors=version.is_tensors)
    except OSError as error:
        return missing(version, Path(version.path), error)
    except ModelError as error:
        return Fault(error.reason, ("file",), str(error), f"a model as it was exported: {_RENEW}")


def missing(version: ModelVersion, path: Path, error: OSError) -> Fault:
    """Return the fault of a file at `path` that could not be read because of `error`."""
    key, add = _key(version, path), f"`changeover models add {version.reference}"
    if error.errno == ENOENT and version.source:
        wanted = f"it, fetched from {redact(version.source)}: see the job `catalog`, or `changeover models fetch`"
        return Fault("file_missing", key, f"no file of {version.reference} in the store yet", wanted)
    if error.errno == ENOENT:
        wanted = f"the file of {version.reference}: put it back, or remove the entry and {add} FILE`"
        return Fault("file_missing", key, f"no file {path}", wanted)
    if error.errno == EISDIR:
        return Fault("file_missing", key, f"a folder {path}", f"a file ({add} FOLDER` takes an OpenVINO export)")
    return Fault("file_missing", key, f"{path}: {error.strerror}", "a file that the agent's user can read")


def altered(version: ModelVersion, path: Path, found: str, sha256: str) -> Fault:
    """Return the fault of a file whose sha256 is `found`, but `sha256` in the catalog."""
    key = ("sha256",) if path == Path(version.path) else _key(version, path)
    wanted = f"{sha256} as in the catalog: copy the file again, or enter it as another version"
    return Fault("hash_mismatch", key, f"{path} has sha256 {found}", wanted)


def _compared(version: ModelVersion, path: Path, sha256: str) -> Fault | None:
    try:
        found = file_sha256(path)
    except OSError as error:
        return missing(version, path, error)
    return None if found == sha256.lower() else altered(version, path, found, sha256)


def _undeclared(version: ModelVersion) -> Iterator[Fault]:
    try:
        names = model_files.companions(Path(version.path))
    except (ModelError, OSError):
        return  # no runtime can read it, and `unsound` says why
    yield from _without_sha256(version, names)


def _without_sha256(version: ModelVersion, names: Iterable[str]) -> Iterator[Fault]:
    path = Path(version.path)
    for name in model_files.undeclared(version, names):
        found = f"no sha256 of {name}, which is read with {path.name}"
        yield Fault("hash_mismatch", _key(version, path.parent / name), found, f"its sha256: {_RENEW}")


def _named(version: ModelVersion) -> Iterator[tuple[str, str]]:
    yield Path(version.path).name, version.sha256
    yield from ((file.name, file.sha256) for file in version.files)


def _key(version: ModelVersion, path: Path) -> tuple[str, ...]:
    own = Path(version.path)
    if path == own:
        return ("file",)
    return ("files", str(path.relative_to(own.parent)))
