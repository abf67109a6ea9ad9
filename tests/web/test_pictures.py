"""Pictures of requests: their pixels are OpenCV's, and what is out of proportion is refused before it is decoded."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import product
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from agent.processes.slots.request_memory import BLOCK_BYTES
from agent.web.gateway.core.faults import RequestError
from agent.web.gateway.core.pictures import decoding

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHANCE = np.random.default_rng(0)
SIDES = (47, 61)
MOST_PIXELS = 10_000_000
ORIENTATION = 0x0112


def picture(height: int = SIDES[0], width: int = SIDES[1], channels: int = 3) -> "NDArray[np.uint8]":
    """Return a picture with coarse and fine detail, BGR."""
    coarse = CHANCE.integers(0, 235, (height // 8 + 1, width // 8 + 1, channels), np.uint8)
    fine = CHANCE.integers(0, 20, (height, width, channels), np.uint8)
    smooth = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
    made: NDArray[np.uint8] = smooth // 2 + fine
    return made


def encoded(pixels: "NDArray[Any]", kind: str, *options: int) -> bytes:
    done, content = cv2.imencode(kind, pixels, options)
    assert done
    return content.tobytes()


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:  # noqa: ANN401 - Pillow's options
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def rgb() -> Image.Image:
    return Image.fromarray(picture())


def deep(channels: int) -> "NDArray[np.uint16]":
    """Return a picture of 16 bits."""
    return picture(channels=max(3, channels)).astype(np.uint16)[..., :channels] * 257 + 100


def files() -> Iterator[tuple[str, bytes]]:
    """Yield pictures of every kind that a client may send."""
    for quality, sampling, progressive in product((50, 95), (0, 1, 2), (False, True)):
        content = saved(rgb(), "JPEG", quality=quality, subsampling=sampling, progressive=progressive)
        yield f"jpeg-{quality}-{sampling}-{progressive}", content
    yield "jpeg-gray", saved(rgb().convert("L"), "JPEG")
    yield "jpeg-restarts", encoded(picture(), ".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 2)
    yield "jpeg-1x1", encoded(picture(1, 1), ".jpg")
    yield "jpeg-wide", encoded(picture(480, 641), ".jpg")
    yield "jpeg-with-more-behind", encoded(picture(), ".jpg") + b"more" * 100
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        yield f"png-{mode}", saved(rgb().convert(mode), "PNG")
    yield "png-transparent-colour", saved(rgb().quantize(16), "PNG", transparency=3)
    for channels in (1, 3, 4):
        yield f"png-16-bits-{channels}", encoded(deep(channels), ".png")
    yield "png-animated", saved(rgb(), "PNG", save_all=True, append_images=[rgb()])
    yield "png-with-more-behind", encoded(picture(), ".png") + bytes(8000)
    for quality, mode in product((50, 101), ("RGB", "RGBA")):
        yield f"webp-{quality}-{mode}", saved(rgb().convert(mode), "WEBP", lossless=quality > 100, quality=50)
    yield "webp-animated", saved(rgb(), "WEBP", save_all=True, append_images=[rgb()], lossless=True)
    for orientation, kind in product(range(10), ("JPEG", "PNG", "WEBP")):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        yield f"{kind.lower()}-turned-{orientation}", saved(rgb(), kind, exif=exif.tobytes(), lossless=True)
    yield "jpeg-broken-exif", saved(rgb(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")


def decoded(content: bytes) -> tuple["NDArray[np.uint8]", tuple[int, int]]:
    """Return the pixels in the block, and the height and width that are told."""
    block = memoryview(bytearray(BLOCK_BYTES))
    (height, width), of = decoding.decode(content, block)
    return np.frombuffer(block, np.uint8, height * width * 3).reshape(height, width, 3), of


FILES = dict(files())


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow tells of broken EXIF; the process does not listen
@pytest.mark.parametrize("name", FILES)
def test_the_pixels_are_those_of_opencv(name: str) -> None:
    pixels, of = decoded(FILES[name])
    expected = cv2.imdecode(np.frombuffer(FILES[name], np.uint8), cv2.IMREAD_COLOR)
    assert expected is not None
    assert of == expected.shape[:2]
    np.testing.assert_array_equal(pixels, expected)


def test_the_four_colours_of_print_are_within_one_of_opencv() -> None:
    content = saved(rgb().convert("CMYK"), "JPEG")
    expected = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert expected is not None
    np.testing.assert_allclose(decoded(content)[0].astype(int), expected, atol=1)


@pytest.mark.parametrize("kind", [".jpg", ".png"])
def test_a_large_picture_is_made_smaller_and_keeps_its_own_size(kind: str) -> None:
    shades = np.linspace(0, 255, 4000, dtype=np.uint8)
    pixels, of = decoded(encoded(np.repeat(np.tile(shades, (3000, 1))[..., None], 3, axis=2), kind))
    assert of == (3000, 4000)
    assert MOST_PIXELS * 0.99 < pixels.shape[0] * pixels.shape[1] <= MOST_PIXELS
    expected = np.linspace(0, 255, pixels.shape[1])
    np.testing.assert_allclose(pixels[pixels.shape[0] // 2, :, 0], expected, atol=2)


def test_a_large_picture_on_its_side_tells_the_turned_size() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    pixels, of = decoded(saved(Image.new("RGB", (5000, 3000)), "JPEG", exif=exif.tobytes()))
    assert of == (5000, 3000)
    assert pixels.shape[0] > pixels.shape[1]


def test_rgb_pixels_are_put_as_they_are() -> None:
    pixels, block = picture(), memoryview(bytearray(BLOCK_BYTES))
    height, width = SIDES
    assert decoding.put(memoryview(pixels[..., ::-1].tobytes()), (width, height), block) == (SIDES, SIDES)
    assert bytes(block[: pixels.nbytes]) == pixels.tobytes()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *more: bytes) -> bytes:
    """Return a PNG of one black channel, as small as it gets, with further chunks before its pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    rows = zlib.compress((b"\0" * (width + 1)) * min(height, 2), 1)
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def segment(kind: int, content: bytes = b"") -> bytes:
    return bytes((0xFF, kind)) + struct.pack(">H", len(content) + 2) + content


def with_header(header: bytes) -> Callable[[], bytes]:
    """Return what makes a JPEG with more in its header, behind a first segment."""
    return lambda: b"\xff\xd8" + segment(0xFE) + header + encoded(picture(), ".jpg")[2:]


@pytest.mark.parametrize(
    "make",
    [
        lambda: encoded(picture(), ".jpg")[:-2],
        lambda: encoded(picture(), ".jpg")[:700],
        lambda: encoded(picture(), ".png")[:-200],
        lambda: encoded(picture(), ".webp")[:200],
        lambda: b"\xff\xd8\xff",
        lambda: b"\x89PNG\r\n\x1a\n",
        lambda: b"RIFF\0\0\0\0WEBP",
        lambda: b"RIFF\0\0\0\0WEBPVP8X" + b"\xff" * 40,
        lambda: png(0, 5),
        lambda: png(32_769, 1),
        lambda: png(20_000, 20_000),
        lambda: png(4, 2, *[chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 20)))] * 300),
        lambda: png(4, 2, *[chunk(b"IDAT", b"")] * 30_000),
        with_header(segment(0xFE) * 2000),
        with_header(segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 80),
        with_header(bytes(5000)),
        with_header((bytes(100) + b"\xff\0") * 100),
        with_header(b"\xff" * 5000),
        with_header(b"\xff\xf0\0\2"),
        with_header(b"\xff\xe1\0\0"),
    ],
)
def test_what_is_no_picture_or_out_of_proportion_is_refused(make: Callable[[], bytes]) -> None:
    with pytest.raises(RequestError, match=r"no picture|too large"):
        decoded(make())


@pytest.mark.parametrize("make", [with_header(b"\xff\xff\xff" + segment(0xFE, b"note")), with_header(bytes(100))])
def test_a_jpeg_with_a_little_junk_in_its_header_is_decoded(make: Callable[[], bytes]) -> None:
    assert decoded(make())[1] == SIDES


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(st.data())
def test_damaged_files_are_decoded_or_refused(data: st.DataObject) -> None:
    content = bytearray(FILES[data.draw(st.sampled_from(sorted(FILES)))])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(RequestError):  # and no other exception
        decoded(bytes(content))
