"""Remembers the measured memory sizes of models over restarts."""

import logging
from pathlib import Path
from typing import Final

import msgspec

from agent.files import replace_file
from agent.inference.memory.pools import Amount
from agent.processes.private_files import make_private

_LOG: Final = logging.getLogger(__name__)
_FILE: Final = "footprints.json"
_LIMIT: Final = 512  # entries; the oldest measurement is dropped first
_SOURCE_BYTES_A_FILE_BYTE: Final = 6.0  # resident bytes were 4.6 to 6.2 times the file's size: predict high
_ARTIFACT_BYTES_A_FILE_BYTE: Final = 3.5  # and of artifacts 2.8 to 3.2 times, and at 640 x 640 some 20 MiB
_ARTIFACT_BYTES: Final = 24 << 20
_TOLERANCE_BYTES: Final = 2 << 20
_TOLERANCE_PART: Final = 20
_ENGINE_BYTES_A_FILE_BYTE: Final = 1.5  # weights lie in a plan as they lie on the GPU; not seen on one
_ENGINE_BYTES: Final = 48 << 20  # scratch and buffers
_USUAL_AREA: Final = 640 * 640


class Footprint(msgspec.Struct, frozen=True):
    """Memory of a model and times of its load, as last measured."""

    bytes: int
    """Bytes of host memory."""
    load_ms: float = 0.0
    warmup_ms: float = 0.0
    is_final: bool = False
    """True: an unload freed these bytes; until then they may include memory that the runtime keeps."""
    device_bytes: int = 0
    """Bytes of GPU memory, as the runtime's allocator counted them."""

    @property
    def amount(self) -> Amount:
        """Bytes of host and GPU memory."""
        return Amount(self.bytes, self.device_bytes)


class Footprints:
    """Measured sizes of models, in a file; a key names the file's sha256, backend, compute setting and input size.

    A broken or read-only file only makes predictions worse. Threading: one thread at a time, of several processes.
    """

    def __init__(self, folder: Path) -> None:
        self._path: Final = folder / _FILE
        self._known: dict[str, Footprint] = {}

    def read(self) -> None:
        """Read the file of earlier runs; a broken one is logged and ignored."""
        self._known = self._stored()

    def known(self, key: str) -> Footprint | None:
        """Return the last measured footprint for `key`; None without one."""
        return self._known.get(key)

    def measured_bytes(self, key: str) -> int | None:
        """Return the last measured bytes of host memory, None without a measurement."""
        known = self._known.get(key)
        return known.bytes if known else None

    def newest(self, sha256: str, compute: str) -> Footprint | None:
        """Return the last footprint measured for a model file and a compute setting, with whichever runtime.

        Returns None without one. `sha256` is that of the model file.
        """
        keys = [key for key in self._known if key.startswith(f"{sha256.lower()}/") and f"/{compute}/" in key]
        return self._known[keys[-1]] if keys else None

    def remember(self, key: str, footprint: Footprint) -> None:
        """Store a footprint in memory and, atomically, on disk; a failure to write is only logged."""
        others = {**self._known, **self._stored()}  # because the workers of other groups measure, too
        others.pop(key, None)
        self._known = {**others, key: footprint}
        while len(self._known) > _LIMIT:
            del self._known[next(iter(self._known))]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            data = msgspec.json.format(msgspec.json.encode(self._known))
            replace_file(self._path, data, sync=False, is_shared=True)
            make_private(self._path)  # because the service must be able to read a file that root wrote
        except OSError as error:
            _LOG.warning("event=footprints_not_written file=%s error=%r", self._path, error)

    def came_back(self, key: str, returned_bytes: int, brought_bytes: int = 0) -> None:
        """Correct a footprint by the bytes that an unload freed, where they differ clearly.

        It grows to at most `brought_bytes`, the growth of the process at the model's own load, because the rest belongs
        to others.
        """
        known = self._known.get(key)
        if known is None or returned_bytes <= 0:
            return
        size_bytes, own_bytes = known.bytes, min(returned_bytes, brought_bytes)
        slack_bytes = tolerance_bytes(size_bytes)
        if returned_bytes < size_bytes - slack_bytes:
            size_bytes = returned_bytes
        elif own_bytes > size_bytes + slack_bytes:
            size_bytes = own_bytes
        if (size_bytes, True) != (known.bytes, known.is_final):
            self.remember(key, msgspec.structs.replace(known, bytes=size_bytes, is_final=True))

    def _stored(self) -> dict[str, Footprint]:
        try:
            known = msgspec.json.decode(self._path.read_bytes(), type=dict[str, Footprint])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            _LOG.warning("event=footprints_unreadable file=%s error=%r", self._path, error)
            return {}
        return {key: footprint for key, footprint in known.items() if footprint.amount.total_bytes > 0}


def tolerance_bytes(size_bytes: int) -> int:
    """Return the tolerance in bytes between two measurements of one model, because pipelines allocate meanwhile."""
    return max(_TOLERANCE_BYTES, size_bytes // _TOLERANCE_PART)


def guess_source_bytes(file_bytes: int) -> int:
    """Return a high guess of an unmeasured model's bytes, from the size of its source."""
    return int(file_bytes * _SOURCE_BYTES_A_FILE_BYTE)


def guess_artifact_bytes(file_bytes: int, imgsz: tuple[int, int]) -> int:
    """Return a high guess of an unmeasured model's bytes, from the sizes of its artifact and its input."""
    buffers_bytes = _ARTIFACT_BYTES * imgsz[0] * imgsz[1] // _USUAL_AREA
    return int(file_bytes * _ARTIFACT_BYTES_A_FILE_BYTE) + buffers_bytes


def guess_engine_bytes(file_bytes: int, imgsz: tuple[int, int]) -> int:
    """Return a guess of an engine's GPU bytes; not a high one, because the pool refuses what exceeds it."""
    return int(file_bytes * _ENGINE_BYTES_A_FILE_BYTE) + _ENGINE_BYTES * imgsz[0] * imgsz[1] // _USUAL_AREA
