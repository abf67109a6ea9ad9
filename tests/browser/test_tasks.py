"""Objects of each task are drawn into the live picture, where the device says that they are."""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import tomlkit
from support.console_plant import ConsolePlant, Looking
from support.running_agent import RunningAgent
from support.task_answers import TASKS, write_task_model

pytestmark = pytest.mark.browser
Look = Callable[..., Looking]
RECORD = """() => {
  window.drawn = [];
  for (const name of ["lineTo", "arc", "fillText"]) {
    const plain = CanvasRenderingContext2D.prototype[name];
    CanvasRenderingContext2D.prototype[name] = function (...given) {
      const scale = name === "fillText" ? 1 : 128 / this.canvas.width;
      window.drawn.push([name, ...given.slice(0, 2).map((one) => typeof one === "number" ? one * scale : one)]);
      if (window.drawn.length > 100) window.drawn.shift();
      return plain.apply(this, given);
    };
  }
}"""
"""Keeps the last 100 calls, with coordinates in pixels of the frame, which is 128 wide."""


def products(settings: dict[str, Any]) -> None:
    settings["line"]["line-1"]["products"] |= {task: task for task in TASKS}


def models(agent: RunningAgent) -> None:
    catalog = agent.folder / "models.toml"
    entries: Any = tomlkit.parse(catalog.read_text()).unwrap()
    for task in TASKS:
        file = write_task_model(agent.folder / f"{task}.onnx", task, (f"a {task}", "other"))
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        entries["model"].append({"name": task, "variant": "n", "version": "1", "file": file.name, "sha256": sha256})
    catalog.write_text(tomlkit.dumps(entries))


def points_of(one: dict[str, Any], task: str) -> list[tuple[float, float]]:
    """Return the points that are to be drawn for an object of a task."""
    x1, y1, x2, y2 = one["box"]
    match task:
        case "segment":
            return [(ring[at], ring[at + 1]) for ring in one["polygons"] for at in range(0, len(ring), 2)]
        case "pose":
            return [(x, y) for x, y, _ in one["keypoints"]]
        case "obb":
            return [(x, y) for x, y in one["corners"]]
    return [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]


def is_drawn(looking: Looking, task: str, message: dict[str, Any]) -> bool:
    calls = looking.page.evaluate("window.drawn")
    if not any(name == "fillText" and str(first).startswith(f"a {task} 9") for name, first, *_ in calls):
        return False
    at = [(x, y) for name, x, y in calls if name == ("arc" if task == "pose" else "lineTo")]
    wanted = [point for one in message["objects"] for point in points_of(one, task)]
    return all(any(abs(x - a) < 1 and abs(y - b) < 1 for a, b in at) for x, y in wanted)


def test_each_task_is_drawn_where_it_was_found(new_plant: Callable[..., ConsolePlant], look: Look) -> None:
    agent = (plant := new_plant(products, models)).agent
    looking = look(plant)
    looking.page.add_init_script(f"({RECORD})()")
    looking.log_in("viewer").go("line/line-1")
    for task in TASKS:
        agent.ready(task)
        agent.until_inferred("cam-1", f"{task}:n@1", len(agent.heard))
        message = json.loads(agent.on("stream/cam-1/detections")[-1].payload)
        assert bool(message["objects"]) == (task != "classify")
        looking.within(partial(is_drawn, looking, task, message))
        word = "a classify 90 %" if task == "classify" else "1 found"
        looking.page.wait_for_selector(f".found:has-text('{task}:n@1 · {word}')", timeout=3000)
