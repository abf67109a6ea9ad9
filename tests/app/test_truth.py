"""No detection says `ready` of a product whose model did not make it, however often a line turns over."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from support.running_agent import PRODUCTS, RunningAgent


def turned_over(make_agent: Callable[..., RunningAgent], fps: int, changeovers: int) -> tuple[int, int, int]:
    """Turn a line over between resident models; return how many detections came, said ready, and said it wrongly."""

    def at_fps(settings: dict[str, Any]) -> None:
        settings["stream"] = [one | {"fps": fps} for one in settings["stream"] if one["line"] == "line-1"]
        del settings["line"]["line-2"]

    agent = make_agent(at_fps, f"at-{fps}")
    agent.until_said("status", "online")
    agent.ready("bottle-500")
    came = ready = wrong = 0
    for number in range(changeovers):
        product = "17" if number % 2 == 0 else "bottle-500"
        agent.ready(product)
        agent.until(partial(says_ready_for, agent, product))
        for stream in ("cam-1", "cam-2"):
            for one in agent.detections(stream):
                came += 1
                ready += one["ready"]
                wrong += one["ready"] and not one["model"].startswith(PRODUCTS[one["product"]])
        agent.heard.clear()
    agent.kill()
    return came, ready, wrong


def says_ready_for(agent: RunningAgent, product: str) -> bool:
    return any(one["ready"] and one["product"] == product for one in agent.detections("cam-1"))


@pytest.mark.parametrize("fps", [10, 30])
def test_no_detection_says_ready_of_another_products_model(make_agent: Callable[..., RunningAgent], fps: int) -> None:
    came, ready, wrong = turned_over(make_agent, fps, 20)
    assert came >= ready >= 20
    assert wrong == 0


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fps", [10, 30])
def test_a_thousand_changeovers_tell_no_lie(make_agent: Callable[..., RunningAgent], fps: int) -> None:
    came, ready, wrong = turned_over(make_agent, fps, 1000)
    print(f"\n1000 changeovers at {fps} fps: {came} detections, {ready} ready, {wrong} of them wrongly")  # noqa: T201
    assert ready >= 1000
    assert wrong == 0
