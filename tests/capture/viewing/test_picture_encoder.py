"""Frames become pictures only while somebody asks, smaller where they are large, and within the link's bound."""

import time
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from support.waiting import until

from agent.capture.source import Image
from agent.capture.viewing.picture_encoder import FileSizes, PictureEncoder
from agent.capture.viewing.viewed_writer import ViewedWriter
from agent.processes.slots.picture_link import MOST_BYTES, Picture, PictureLink, PictureReceiver, PictureSender, Size


class Viewing:
    """An encoder between a camera and somebody who looks."""

    def __init__(self) -> None:
        self.link = PictureLink()
        self.encoder = PictureEncoder(PictureSender(self.link.camera_end))
        self.web = PictureReceiver(self.link.web_end)
        self.encoder.start()

    def seen(self) -> Picture:
        found: list[Picture] = []

        def came() -> bool:
            picture = self.web.receive()
            found.extend([picture] if picture is not None else [])
            return bool(found)

        until(came)
        return found[0]


@pytest.fixture
def viewing() -> Iterator[Viewing]:
    made = Viewing()
    yield made
    made.encoder.stop()
    made.web.close()
    made.link.close()


def shade(height: int, width: int, value: int = 90) -> Image:
    return np.full((height, width, 3), value, np.uint8)


def pixels(picture: Picture) -> Image:
    found = cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert found is not None
    return np.asarray(found, np.uint8)


def test_a_request_is_answered_by_the_next_frame_once(viewing: Viewing) -> None:
    viewing.encoder.offer(shade(48, 64), 1, 10)
    viewing.web.ask(Size.LARGE)
    viewing.encoder.offer(shade(48, 64), 2, 20)
    picture = viewing.seen()
    assert (picture.frame, picture.captured_unix_ns, picture.width, picture.height) == (2, 20, 64, 48)
    assert pixels(picture).shape == (48, 64, 3)
    viewing.encoder.offer(shade(48, 64), 3, 30)
    viewing.web.ask(Size.LARGE)
    viewing.encoder.offer(shade(48, 64), 4, 40)
    assert viewing.seen().frame == 4, "nothing was encoded in between"


@pytest.mark.parametrize("size", list(Size))
def test_a_large_frame_comes_in_the_size_asked_for_and_in_its_proportions(viewing: Viewing, size: Size) -> None:
    viewing.web.ask(size)
    viewing.encoder.offer(shade(1080, 1920), 1, 10)
    picture = viewing.seen()
    assert picture.size == size
    assert (picture.width, picture.height) == (size.longest_side, size.longest_side * 9 // 16)
    assert pixels(picture).shape == (picture.height, picture.width, 3)


def test_one_frame_answers_all_sizes(viewing: Viewing) -> None:
    viewing.web.ask(Size.SMALL)
    viewing.web.ask(Size.LARGE)
    viewing.encoder.offer(shade(1080, 1920), 1, 10)
    found = [viewing.seen(), viewing.seen()]
    assert [(one.frame, one.size) for one in found] == [(1, Size.LARGE), (1, Size.SMALL)]
    assert [one.width for one in found] == [960, 320]


def test_a_picture_is_of_its_own_frame_though_the_buffer_is_written_again(viewing: Viewing) -> None:
    buffer = shade(48, 64, 30)
    viewing.web.ask(Size.LARGE)
    viewing.encoder.offer(buffer, 1, 10)
    buffer[:] = 250
    assert abs(int(pixels(viewing.seen()).mean()) - 30) <= 3


def test_the_line_has_a_part_of_the_frames_time_for_itself(viewing: Viewing) -> None:
    viewing.encoder.offer(shade(48, 64), 1, 0)
    viewing.web.ask(Size.LARGE)
    begun_s = time.monotonic()
    viewing.encoder.offer(shade(48, 64), 2, 160_000_000)
    assert viewing.seen().frame == 2
    assert time.monotonic() - begun_s >= 0.04


def noise(height: int, width: int) -> Image:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


def test_a_picture_that_hardly_compresses_still_fits_the_link() -> None:
    assert len(FileSizes(Size.LARGE.wanted_bytes).encode(noise(720, Size.LARGE.longest_side))) <= MOST_BYTES


def test_files_come_to_the_wanted_size_and_back_to_their_quality() -> None:
    rough = np.asarray(cv2.resize(noise(135, 240), (960, 540), interpolation=cv2.INTER_CUBIC), np.uint8)
    plain, files = shade(540, 960), FileSizes(Size.LARGE.wanted_bytes)
    best = len(files.encode(plain))
    sizes = [len(files.encode(rough)) for _ in range(12)]
    assert sizes[0] <= 1.3 * Size.LARGE.wanted_bytes, "a slow link has no large ones to wait for, not even the first"
    assert sizes[-2] <= Size.LARGE.wanted_bytes
    assert sizes[-1] == sizes[-2], "it settles"
    assert [len(files.encode(plain)) for _ in range(12)][-1] == best


class SlotDummy:
    """A frame slot's writer that keeps what it was told."""

    def __init__(self) -> None:
        self.offered: list[tuple[int, int]] = []

    def buffer(self, height: int, width: int) -> Image:
        return shade(height, width, 0)

    def offer(self, captured_ns: int, captured_unix_ns: int, of: tuple[int, int] | None = None) -> int:
        del of
        self.offered.append((captured_ns, captured_unix_ns))
        return len(self.offered)

    def wait_taken(self, timeout_s: float) -> bool:
        return timeout_s > 0


def test_the_line_gets_its_frame_whoever_looks(viewing: Viewing) -> None:
    slot = SlotDummy()
    writer = ViewedWriter(slot, viewing.encoder)
    viewing.web.ask(Size.LARGE)
    writer.buffer(48, 64)[:] = 200
    assert writer.offer(1, 10) == 1
    assert slot.offered == [(1, 10)]
    assert viewing.seen().frame == 1
    assert writer.wait_taken(1.0)
