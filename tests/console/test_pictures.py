"""Pictures: asked for while somebody looks, one encoding for all, and boxes of the same frame."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from agent.processes.slots.picture_link import MOST_BYTES, Picture, PictureLink, PictureReceiver, PictureSender, Size
from agent.web.console.pictures import Arrived, PictureHub, Request, request_of

JPEG = b"\xff\xd8 a picture"
SOON_S = 5.0


def picture(frame: int, *, age_s: float = 0.0, size: Size = Size.LARGE) -> Picture:
    return Picture(frame, time.time_ns() - int(age_s * 1e9), 64, 48, JPEG, size)


def request(after: int = 0, size: Size = Size.LARGE) -> Request:
    return Request(after, size, time.monotonic())


def detections(frame: int) -> bytes:
    return json.dumps({"frame": frame, "objects": [], "width": 64, "height": 48}).encode()


class Place:
    """A hub with one stream, and the camera's end of its link."""

    def __init__(self) -> None:
        self.link = PictureLink()
        self.camera = PictureSender(self.link.camera_end)
        self.watched: list[tuple[str, ...]] = []
        self.hub = PictureHub({"cam": PictureReceiver(self.link.web_end)}, self.watched.append)

    def answer(self, one: Request) -> dict[str, Any] | None:
        """Return the header of what a page's request is answered by now; None where it waits."""
        message = self.hub.answer("cam", one)
        if message is None:
            return None
        length = int.from_bytes(message[:4], "big")
        assert message[4 + length :] == JPEG
        head: dict[str, Any] = json.loads(message[4 : 4 + length])
        return head

    async def answered(self, one: Request) -> dict[str, Any]:
        heads: list[dict[str, Any]] = []

        def is_answered() -> bool:
            head = self.answer(one)
            heads.extend([head] if head is not None else [])
            return bool(heads)

        await self.until(is_answered)
        return heads[0]

    async def until(self, found: Callable[[], object]) -> None:
        limit_s = time.monotonic() + SOON_S
        while not found():
            assert time.monotonic() < limit_s
            await asyncio.sleep(0.005)


def run(test: Callable[[Place], Awaitable[None]]) -> None:
    async def inside() -> None:
        place = Place()
        place.hub.start()
        try:
            await test(place)
        finally:
            place.hub.stop()
            place.camera.close()
            place.link.close()

    asyncio.run(inside())


def test_nobody_looking_asks_for_nothing() -> None:
    async def test(place: Place) -> None:
        place.hub.tick()
        assert not place.camera.asked()
        assert place.watched == []

    run(test)


def test_many_who_look_share_one_request_and_one_picture() -> None:
    async def test(place: Place) -> None:
        pages = [request() for _ in range(3)]
        assert [place.answer(page) for page in pages] == [None] * 3
        assert place.camera.asked() == {Size.LARGE}
        assert not place.camera.asked(), "one request for all of them"
        assert place.watched == [("cam",)]
        place.hub.take_detections("cam", detections(7))
        place.camera.send(picture(7))
        assert [(await place.answered(page))["frame"] for page in pages] == [7, 7, 7]
        assert place.answer(request(after=7)) is None, "nobody gets the same picture twice"

    run(test)


def test_each_size_is_asked_for_by_itself_and_answers_those_who_want_it() -> None:
    async def test(place: Place) -> None:
        slow, quick = request(size=Size.SMALL), request()
        assert place.answer(slow) is None
        assert place.answer(quick) is None
        assert place.camera.asked() == {Size.SMALL, Size.LARGE}
        place.hub.take_detections("cam", detections(7))
        place.camera.send(picture(7))
        assert (await place.answered(quick))["frame"] == 7
        assert place.answer(slow) is None
        place.camera.send(picture(8, size=Size.SMALL))
        assert (await place.answered(slow))["frame"] == 8

    run(test)


def test_a_page_that_asks_a_little_later_shares_the_picture_of_this_moment_and_nothing_is_encoded_for_it() -> None:
    async def test(place: Place) -> None:
        first = request()
        assert place.answer(first) is None
        place.hub.take_detections("cam", detections(7))
        place.camera.send(picture(7))
        await place.answered(first)
        assert place.camera.asked() == {Size.LARGE}
        place.hub._streams["cam"].period_s = 1.0  # so that 0.5 s are one moment
        assert place.answer(request(after=3)) is not None
        assert not place.camera.asked()
        place.hub._streams["cam"].views[Size.LARGE].picture = Arrived.now(picture(7, age_s=0.7))
        assert place.answer(request(after=3)) is None, "the next frame is newer"
        assert place.camera.asked() == {Size.LARGE}

    run(test)


def test_boxes_stand_on_the_frame_that_they_were_found_in() -> None:
    async def test(place: Place) -> None:
        page = request()
        assert place.answer(page) is None
        place.hub.take_detections("cam", detections(6))
        place.camera.send(picture(7))
        place.hub.take_detections("cam", detections(7))
        assert (await place.answered(page))["detections"]["frame"] == 7

    run(test)


def test_a_picture_waits_for_a_slow_model_only_so_long_and_boxes_of_another_scene_are_left_out() -> None:
    async def test(place: Place) -> None:
        page = request()
        assert place.answer(page) is None
        place.hub.take_detections("cam", detections(89))
        place.camera.send(picture(90))
        assert (await place.answered(page))["detections"] is None

    run(test)


def test_a_page_that_comes_is_given_no_old_picture_and_each_has_its_age() -> None:
    async def test(place: Place) -> None:
        page = request()
        assert place.answer(page) is None
        place.camera.send(picture(1, age_s=1.0))
        assert (await place.answered(page))["age_ms"] >= 1000
        assert place.answer(request()) is None, "it is old, and another page's"
        page = request()
        assert place.answer(page) is None
        place.camera.send(picture(2, age_s=60.0))
        await place.until(
            lambda: (shown := place.hub._streams["cam"].views[Size.LARGE].picture) and shown.picture.frame == 2
        )
        assert place.answer(page) is None

    run(test)


def test_a_camera_that_was_replaced_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(place: Place) -> None:
        assert place.answer(request()) is None
        assert place.camera.asked()
        place.hub.tick()
        assert not place.camera.asked()
        now_s = time.monotonic()
        monkeypatch.setattr("agent.web.console.pictures.time.monotonic", lambda: now_s + 1.5)
        place.hub.tick()
        assert place.camera.asked() == {Size.LARGE}

    run(test)


def test_a_stream_that_nobody_looks_at_any_more_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(place: Place) -> None:
        assert place.answer(request()) is None
        now_s = time.monotonic()
        monkeypatch.setattr("agent.web.console.pictures.time.monotonic", lambda: now_s + 60)
        place.hub.tick()
        assert place.watched == [("cam",), ()]

    run(test)


def test_a_request_is_a_frame_and_a_size() -> None:
    found = request_of("17 medium")
    assert found is not None
    assert (found.frame, found.size) == (17, Size.MEDIUM)
    for text in ("", "17", "x small", "-1 small", "17 huge", "17 small ", "\u0661 small", "17 __class__"):
        assert request_of(text) is None, text


def test_an_unknown_stream_is_refused() -> None:
    async def test(place: Place) -> None:
        assert place.hub.has("cam")
        assert not place.hub.has("no-such")

    run(test)


def test_the_link_drops_what_does_not_fit_and_never_waits() -> None:
    link = PictureLink()
    camera, web = PictureSender(link.camera_end), PictureReceiver(link.web_end)
    large = Picture(1, 2, 3, 4, bytes(MOST_BYTES), Size.LARGE)
    assert camera.send(large)
    assert not all(camera.send(Picture(2, 2, 3, 4, bytes(MOST_BYTES), Size.LARGE)) for _ in range(8)), (
        "the reader is slow"
    )
    assert not camera.send(Picture(3, 2, 3, 4, bytes(MOST_BYTES + 1), Size.LARGE))
    assert web.receive() == large
    while web.receive() is not None:
        pass
    for _ in range(100_000):
        web.ask(Size.SMALL)
    assert camera.asked() == {Size.SMALL}
    for end in (camera, web, link):
        end.close()


def test_a_message_that_is_no_picture_is_passed_over() -> None:
    link = PictureLink()
    camera, web = PictureSender(link.camera_end), PictureReceiver(link.web_end)
    for message in (b"x", bytes(100)):
        camera._end.send(message)
        assert web.receive() is None
    for end in (camera, web, link):
        end.close()


@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0])
def test_a_clock_that_is_set_makes_no_picture_younger_or_older(monkeypatch: pytest.MonkeyPatch, jump_s: float) -> None:
    """A camera has stalled, and the time comes from the network."""

    async def test(place: Place) -> None:
        first = request()
        assert place.answer(first) is None
        place.hub.take_detections("cam", detections(7))
        place.camera.send(picture(7, age_s=0.5))
        age_ms = (await place.answered(first))["age_ms"]
        assert age_ms >= 500
        is_set = time.time_ns() + int(jump_s * 1e9)
        monkeypatch.setattr(time, "time_ns", lambda: is_set)
        again = place.answer(Request(0, Size.LARGE, first.at_s))
        assert again is not None, "it is of this moment still"
        assert age_ms <= again["age_ms"] < age_ms + 1000 * SOON_S

    run(test)
