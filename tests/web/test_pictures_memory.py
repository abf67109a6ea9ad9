"""Memory that decoding a picture takes, in a process of its own."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from PIL import Image
from support.hostile_pictures import animated, in_parts, saved, swollen_exif

PEAK = """
import sys
from agent.web.gateway.core.pictures import decoding
def most_kb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
content, block = sys.stdin.buffer.read(), bytearray(b"-") * (32 << 20)
before = most_kb()
decoding.decode(content, memoryview(block))
print(most_kb() - before)
"""
MOST_PEAK_KB = 320 << 10
"""Peak that docs/gateway.md tells."""


@pytest.mark.parametrize(
    "make",
    [
        lambda: animated(4096),
        lambda: saved(Image.new("RGBA", (4096, 4096)), "PNG", compress_level=1),
        lambda: saved(Image.new("CMYK", (6320, 6320)), "JPEG"),
        lambda: saved(Image.new("CMYK", (4096, 4096)), "JPEG", progressive=True),
        lambda: in_parts(swollen_exif()),
    ],
)
def test_decoding_takes_no_more_memory_than_is_told(make: Callable[[], bytes]) -> None:
    done = subprocess.run([sys.executable, "-c", PEAK], input=make(), stdout=subprocess.PIPE, check=True)
    assert int(done.stdout) < MOST_PEAK_KB
