"""A fault while somebody looks shows as what it is within 3 s, and its return shows too."""

from collections.abc import Callable
from contextlib import suppress

import psutil
import pytest
from support.console_plant import ConsolePlant, Looking, usual_pictures
from support.running_agent import DEADLINE_S
from support.slow_link import slow_link

pytestmark = pytest.mark.browser
Look = Callable[..., Looking]
WORKER = "agent.inference.process"
FAST_BYTES_PER_S = 10_000_000


def stream_status(looking: Looking, stream: str) -> str:
    text: str = looking.page.inner_text(f"[data-stream={stream}] .chip")
    return text


def watching(plant: ConsolePlant, look: Look, place: str = "plant") -> Looking:
    looking = look(plant).log_in("viewer").go(place)
    looking.within(lambda: looking.ready() == "bottle-500" and looking.frame("cam-1") > 0, 15)
    return looking


def test_a_camera_that_is_killed(own_plant: ConsolePlant, look: Look) -> None:
    looking = watching(own_plant, look)
    frame = looking.frame("cam-1")
    own_plant.agent.camera("cam-1").kill()
    looking.within(lambda: looking.ready() == "0" or stream_status(looking, "cam-1") != "online")
    own_plant.agent.until(lambda: own_plant.agent.value("line/line-1/ready") == "bottle-500")
    looking.within(lambda: looking.ready() == "bottle-500" and looking.frame("cam-1") > frame, 10)


def test_a_camera_that_stalls_leaves_an_aged_picture_that_says_so(own_plant: ConsolePlant, look: Look) -> None:
    looking = watching(own_plant, look)

    def is_stale() -> bool:
        with suppress(psutil.NoSuchProcess):  # control kills what hangs, and the next camera is to hang as well
            own_plant.agent.camera("cam-1").suspend()
        return looking.has("[data-stream=cam-1].stale")

    looking.within(is_stale)
    assert "STALE" in looking.page.inner_text("[data-stream=cam-1] .age")
    looking.within(lambda: looking.ready() == "0", 6)
    with suppress(psutil.NoSuchProcess):
        own_plant.agent.camera("cam-1").kill()


def test_a_worker_that_is_killed(own_plant: ConsolePlant, look: Look) -> None:
    looking = watching(own_plant, look)
    own_plant.agent.child(WORKER).kill()
    looking.within(lambda: looking.ready() == "0")
    own_plant.agent.until(lambda: own_plant.agent.value("line/line-1/ready") == "bottle-500")
    looking.within(lambda: looking.ready() == "bottle-500")
    looking.go("alerts")
    looking.within(lambda: "worker process is gone" in looking.page.inner_text("ol.log"))


def test_a_broker_that_stops(own_plant: ConsolePlant, look: Look) -> None:
    looking = watching(own_plant, look)
    own_plant.broker.kill()
    looking.within(lambda: looking.has(".banner.warn"))
    assert "broker" in looking.page.inner_text(".banner").lower()
    assert looking.ready() == "bottle-500", "the console hears the device without a broker"
    own_plant.broker.start()
    looking.within(lambda: not looking.has(".banner"), DEADLINE_S)


def test_an_agent_that_is_restarted(own_plant: ConsolePlant, look: Look) -> None:
    looking = watching(own_plant, look)
    own_plant.agent.kill()
    looking.within(lambda: looking.has(".banner.bad"))
    assert looking.ready() in {"0", None}, "nobody knows"
    mark = len(own_plant.agent.heard)
    own_plant.agent.start()
    own_plant.agent.until_said("line/line-1/ready", "bottle-500", mark)
    looking.within(lambda: not looking.has(".banner") and looking.ready() == "bottle-500", 10)
    looking.within(lambda: looking.frame("cam-1") > 0)


def test_a_web_process_that_is_killed_comes_back_with_its_sessions(own_plant: ConsolePlant, look: Look) -> None:
    looking = watching(own_plant, look)
    own_plant.agent.child("agent.web.web_process").kill()
    own_plant.agent.until(lambda: own_plant.agent.log().count("event=web_serving") == 2)
    looking.within(lambda: not looking.has(".banner") and looking.ready() == "bottle-500", DEADLINE_S)
    assert own_plant.agent.value("line/line-1/ready") == "bottle-500", "the line has nothing to do with it"


def test_a_link_that_slows_down_is_asked_for_smaller_pictures(
    new_plant: Callable[..., ConsolePlant], look: Look
) -> None:
    plant = new_plant(lambda _: None, lambda agent: usual_pictures(agent.folder))
    with slow_link(plant.port, FAST_BYTES_PER_S) as link:
        looking = look(plant, viewport={"width": 1920, "height": 1080})
        sizes: list[str] = []
        looking.url = f"http://127.0.0.1:{link.port}"
        looking.page.on("websocket", lambda one: one.on("framesent", lambda text: sizes.append(text.split()[2])))
        looking.log_in("viewer").go("line/line-2")
        looking.within(lambda: "large" in sizes, DEADLINE_S)
        assert sizes[0] == "small", "nobody knows the link yet"
        link.bytes_per_s = 60_000
        looking.within(lambda: sizes[-3:] == ["small"] * 3, DEADLINE_S)
        looking.page.context.close()


def test_a_user_who_is_removed_sees_nothing_any_more(own_plant: ConsolePlant, look: Look) -> None:
    from agent.web.console.access.users import Users  # noqa: PLC0415 - one test's

    looking = watching(own_plant, look)
    Users(own_plant.agent.folder / "state").remove("viewer")
    looking.within(lambda: looking.has("input[name=password]"))
    assert not looking.has("[data-line]")
