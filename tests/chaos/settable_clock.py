"""Imported by each Python of an agent under test: its wall clock is ahead by what a file says, while it runs too."""

import mmap
import os
import struct
import time

with open(os.environ["CHANGEOVER_TEST_CLOCK"], "rb") as file:  # noqa: PTH123 - pathlib is slow to import here
    _ahead = mmap.mmap(file.fileno(), 8, prot=mmap.PROT_READ)
_time, _time_ns = time.time, time.time_ns


def _ahead_s() -> float:
    return float(struct.unpack("d", _ahead[:8])[0])


time.time = lambda: _time() + _ahead_s()
time.time_ns = lambda: _time_ns() + int(_ahead_s() * 1e9)
