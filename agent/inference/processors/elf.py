"""Reads which libraries a shared library needs, without loading it."""

import struct
from pathlib import Path
from typing import Final

_MAGIC: Final = b"\x7fELF\x02\x01"  # 64 bits, little-endian: x86-64 and aarch64
_HEADER: Final = struct.Struct("<32xQ14xHH")  # e_phoff, e_phentsize, e_phnum
_SEGMENT: Final = struct.Struct("<I4xQQ8xQ16x")  # p_type, p_offset, p_vaddr, p_filesz
_ENTRY: Final = struct.Struct("<qQ")
_LOAD: Final = 1
_DYNAMIC: Final = 2
_NEEDED: Final = 1
_STRING_TABLE: Final = 5
_LONGEST_NAME: Final = 256


def needed_libraries(path: Path) -> tuple[str, ...]:
    """Return the names in a library's DT_NEEDED entries; empty where it is no ELF file that this reads.

    Raises OSError.
    """
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            return ()
        file.seek(0)
        try:
            offset, size, count = _HEADER.unpack(file.read(_HEADER.size))
            file.seek(offset)
            table = file.read(size * count)
            segments = [_SEGMENT.unpack_from(table, size * index) for index in range(count)]
            _, start, _, length = next(one for one in segments if one[0] == _DYNAMIC)
            file.seek(start)
            dynamic = file.read(length)
            entries = list(_ENTRY.iter_unpack(dynamic[: length - length % _ENTRY.size]))
            address = next(value for tag, value in entries if tag == _STRING_TABLE)
            strings = next(
                one[1] + address - one[2] for one in segments if one[0] == _LOAD and 0 <= address - one[2] < one[3]
            )
        except (StopIteration, struct.error):
            return ()
        names = []
        for tag, value in entries:
            if tag == _NEEDED:
                file.seek(strings + value)
                names.append(file.read(_LONGEST_NAME).partition(b"\0")[0].decode("ascii", "replace"))
        return tuple(names)
