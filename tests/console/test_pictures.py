"""Pictures: asked for while somebody looks, one encoding for all, and boxes of the same frame."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from agent.processes.slots.picture_link import MOST_BYTES, Picture, PictureLink, PictureReceiver, PictureSender
from agent.web.console.pictures import PictureHub

JPEG = b"\xff\xd8 a picture"
SOON_S = 5.0


def picture(frame: int, *, age_s: float = 0.0) -> Picture:
    return Picture(frame, time.time_ns() - int(age_s * 1e9), 64, 48, JPEG)


def detections(frame: int) -> bytes:
    return json.dumps({"frame": frame, "objects": [], "width": 64, "height": 48}).encode()


class Place:
    """A hub with one stream, and the camera's end of its link."""

    def __init__(self) -> None:
        self.link = PictureLink()
        self.camera = PictureSender(self.link.camera_end)
        self.watched: list[tuple[str, ...]] = []
        self.hub = PictureHub({"cam": PictureReceiver(self.link.web_end)}, self.watched.append)

    def newer(self, after: int = 0) -> dict[str, Any] | None:
        message = self.hub.newer("cam", after, time.monotonic())
        if message is None:
            return None
        length = int.from_bytes(message[:4], "big")
        assert message[4 + length :] == JPEG
        head: dict[str, Any] = json.loads(message[4 : 4 + length])
        return head

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
        assert not place.camera.is_asked()
        assert place.watched == []

    run(test)


def test_many_who_look_share_one_request_and_one_picture() -> None:
    async def test(place: Place) -> None:
        for _ in range(3):
            assert place.hub.want("cam")
        assert place.camera.is_asked()
        assert not place.camera.is_asked(), "one request for all of them"
        assert place.watched == [("cam",)]
        place.hub.take_detections("cam", detections(7))
        place.camera.send(picture(7))
        await place.until(place.newer)
        heads = [place.newer() for _ in range(3)]
        assert {head["frame"] for head in heads if head} == {7}
        assert place.newer(after=7) is None, "nobody gets the same picture twice"

    run(test)


def test_boxes_stand_on_the_frame_that_they_were_found_in() -> None:
    async def test(place: Place) -> None:
        place.hub.want("cam")
        place.hub.take_detections("cam", detections(6))
        place.camera.send(picture(7))
        place.hub.take_detections("cam", detections(7))
        await place.until(place.newer)
        head = place.newer()
        assert head is not None
        assert head["detections"]["frame"] == 7

    run(test)


def test_a_picture_waits_for_a_slow_model_only_so_long_and_boxes_of_another_scene_are_left_out() -> None:
    async def test(place: Place) -> None:
        place.hub.want("cam")
        place.hub.take_detections("cam", detections(89))
        place.camera.send(picture(90))
        await place.until(place.newer)
        head = place.newer()
        assert head is not None
        assert head["detections"] is None

    run(test)


def test_a_page_that_comes_is_given_no_old_picture_and_each_has_its_age() -> None:
    async def test(place: Place) -> None:
        place.hub.want("cam")
        place.camera.send(picture(1, age_s=1.0))
        await place.until(place.newer)
        head = place.newer()
        assert head is not None
        assert head["age_ms"] >= 1000
        place.hub.want("cam")
        place.camera.send(picture(2, age_s=60.0))
        await place.until(lambda: getattr(place.hub._streams["cam"].picture, "frame", 0) == 2)
        assert place.newer() is None

    run(test)


def test_a_camera_that_was_replaced_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(place: Place) -> None:
        place.hub.want("cam")
        assert place.camera.is_asked()
        place.hub.tick()
        assert not place.camera.is_asked()
        now_s = time.monotonic()
        monkeypatch.setattr("agent.web.console.pictures.time.monotonic", lambda: now_s + 1.5)
        place.hub.tick()
        assert place.camera.is_asked()

    run(test)


def test_a_stream_that_nobody_looks_at_any_more_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(place: Place) -> None:
        place.hub.want("cam")
        now_s = time.monotonic()
        monkeypatch.setattr("agent.web.console.pictures.time.monotonic", lambda: now_s + 60)
        place.hub.tick()
        assert place.watched == [("cam",), ()]

    run(test)


def test_an_unknown_stream_is_refused() -> None:
    async def test(place: Place) -> None:
        assert not place.hub.want("no-such")

    run(test)


def test_the_link_drops_what_does_not_fit_and_never_waits() -> None:
    link = PictureLink()
    camera, web = PictureSender(link.camera_end), PictureReceiver(link.web_end)
    large = Picture(1, 2, 3, 4, bytes(MOST_BYTES))
    assert camera.send(large)
    assert not all(camera.send(Picture(2, 2, 3, 4, bytes(MOST_BYTES))) for _ in range(8)), "the reader is slow"
    assert not camera.send(Picture(3, 2, 3, 4, bytes(MOST_BYTES + 1)))
    assert web.receive() == large
    while web.receive() is not None:
        pass
    for _ in range(100_000):
        web.ask()
    assert camera.is_asked()
    for end in (camera, web, link):
        end.close()


def test_a_message_that_is_no_picture_is_passed_over() -> None:
    link = PictureLink()
    camera, web = PictureSender(link.camera_end), PictureReceiver(link.web_end)
    camera._end.send(b"x")
    assert web.receive() is None
    for end in (camera, web, link):
        end.close()
