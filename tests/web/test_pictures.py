"""Pictures of requests: their pixels are OpenCV's, and what is out of proportion is refused before it is decoded."""

import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import product
from threading import Lock
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin
from support.hostile_pictures import ORIENTATION, animated, exif_of, in_parts, oriented, saved, segment, swollen_exif

from agent.processes.slots.request_memory import BLOCK_BYTES
from agent.web.gateway.core.faults import RequestError
from agent.web.gateway.core.pictures import decoding

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHANCE = np.random.default_rng(0)
SIDES = (47, 61)
MOST_PIXELS = 10_000_000


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


EXIF = {
    "little": exif_of(oriented("<")),
    "big": exif_of(oriented(">"), order=">"),
    "behind-another": exif_of(struct.pack("<HHII", 0x010F, 2, 20, 8), oriented("<")),
    "long": exif_of(oriented("<", kind=4)),
    "big-long": exif_of(oriented(">", kind=4), order=">"),
    "two": exif_of(oriented("<", count=2)),
    "twice": exif_of(oriented("<"), oriented("<", orientation=3)),
    "upright-first": exif_of(oriented("<", orientation=1), oriented("<")),
    "short-by-little": exif_of(oriented("<"))[:20],
    "short": exif_of(oriented("<"))[:19],
    "far": b"II*\0\xff\xff\xff\xff",
    "other-version": b"II+\0" + exif_of(oriented("<"))[4:],
    "other-order": b"MM*\0" + exif_of(oriented(">"), order=">")[4:],
    "none": exif_of(),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("exif", EXIF.values(), ids=EXIF)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_orientation_is_what_opencv_reads(exif: bytes, kind: str) -> None:
    content = saved(rgb(), kind, exif=b"Exif\0\0" + exif, lossless=True)
    expected = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert expected is not None
    np.testing.assert_array_equal(decoded(content)[0], expected)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_may_name_itself_once_more(kind: str) -> None:
    content = saved(rgb(), kind, exif=b"Exif\0\0Exif\0\0" + EXIF["little"], lossless=True)
    assert decoded(content)[1] == SIDES[::-1]


def test_a_text_named_exif_is_no_exif() -> None:
    assert decoded(png(4, 2, chunk(b"iTXt", b"exif\0\0\0\0\0text")))[1] == (2, 4)


def test_exif_is_never_parsed_by_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Older Pillows copy what each entry points at, without a bound."""
    parsed: list[object] = []
    monkeypatch.setattr(TiffImagePlugin.ImageFileDirectory_v2, "load", lambda *given: parsed.append(given))
    exif = swollen_exif()
    saved_with = [saved(rgb(), kind, exif=b"Exif\0\0" + exif) for kind in ("PNG", "WEBP")]
    for content in (in_parts(exif), *saved_with):
        assert decoded(content)[1] == SIDES[::-1]
    assert not parsed


def scans(first: int, more: int, behind: bytes = b"") -> bytes:
    """Return a progressive JPEG of `first` scans, of which the last is there `more` times again."""
    content = saved(Image.new("L", (64, 48), 90), "JPEG", progressive=True)
    starts = [at for at in range(len(content)) if content[at : at + 2] == b"\xff\xda"]
    assert len(starts) == first
    return content[:-2] + content[starts[-1] : -2] * more + content[-2:] + behind


GRAY_SCANS = 6


@pytest.mark.parametrize("content", [scans(GRAY_SCANS, 95), scans(GRAY_SCANS, 400), scans(GRAY_SCANS, 95, bytes(100))])
def test_a_jpeg_of_many_scans_is_refused(content: bytes) -> None:
    with pytest.raises(RequestError, match="scans"):
        decoded(content)


def test_scans_are_counted_to_the_end_of_the_picture_only() -> None:
    segments = segment(0xFE, b"\xff\xda" * 300)
    content = scans(GRAY_SCANS, 1, b"\xff\xda" * 300)
    assert decoded(content)[1] == (48, 64)
    at = content.rindex(b"\xff\xda", 0, -600)
    assert decoded(content[:at] + segments + content[at:])[1] == (48, 64)


def with_size(content: bytes, kind: int, height: int, width: int) -> bytes:
    """Return a JPEG that states another size."""
    at = content.index(bytes((0xFF, kind))) + 5
    return content[:at] + struct.pack(">HH", height, width) + content[at + 4 :]


@pytest.mark.parametrize(
    "content",
    [
        animated(4097),
        png(4097, 4096),
        with_size(saved(rgb(), "JPEG", progressive=True), 0xC2, 4097, 4096),
        with_size(saved(rgb(), "JPEG"), 0xC0, 8193, 8192),
    ],
)
def test_what_would_take_much_memory_is_refused_with_what_may_be_sent(content: bytes) -> None:
    with pytest.raises(RequestError, match=r"too large: send one of at most (16|67) million pixels"):
        decoded(content)


def test_an_animated_picture_is_its_first_frame_in_the_canvas() -> None:
    assert decoded(animated(300))[1] == (300, 300)


def test_pictures_of_some_size_are_decoded_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = Lock()
    held: list[bool] = []
    place = decoding._place

    def placed(image: Image.Image, block: memoryview, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        held.append(lock.locked())
        return place(image, block, size)

    monkeypatch.setattr(decoding, "_ALONE", lock)
    monkeypatch.setattr(decoding, "_place", placed)
    for side in (1700, 1800):
        decoded(saved(Image.new("RGB", (side, side)), "JPEG"))
    assert held == [False, True]


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(st.data())
def test_damaged_files_are_decoded_or_refused(data: st.DataObject) -> None:
    content = bytearray(FILES[data.draw(st.sampled_from(sorted(FILES)))])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(RequestError):  # and no other exception
        decoded(bytes(content))
