"""The console's figures, on this machine, as one line of JSON; takes about six minutes.

Run in tests/: `../.venv/bin/python -m browser.figures`. Needs what scripts/browser brings, and a quiet machine.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
from playwright.sync_api import sync_playwright
from support.brokers import Mosquitto
from support.console_plant import CHROMIUM, ConsolePlant, Looking
from support.running_agent import FPS
from support.slow_link import slow_link

from agent.mqtt.blocking_client import connected
from agent.mqtt.endpoint.link_settings import LinkSettings

SAMPLES = 40
SECONDS = 30.0
EVENTS = 20_000
SETTLED_EVENTS = 2_000
SLOW_BYTES_PER_S = 150_000
WATCH_READY = """() => {
  window.seen = [];
  const target = document.querySelector('[data-line=line-1] .ready');
  new MutationObserver(() => requestAnimationFrame(() =>
    window.seen.push([target.dataset.ready, performance.timeOrigin + performance.now()])
  )).observe(target, { attributes: true, attributeFilter: ['data-ready'] });
}"""
SAMPLE_AGES = """async (seconds) => {
  const canvas = document.querySelector('[data-stream=cam-1] canvas');
  const [ages, frames, until] = [[], new Set(), performance.now() + seconds * 1000];
  while (performance.now() < until) {
    await new Promise(requestAnimationFrame);
    ages.push(performance.now() - Number(canvas.dataset.born));
    frames.add(canvas.dataset.frame);
  }
  return { ages, shown: frames.size };
}"""


class Figures:
    """One plant with pictures of a usual size, and a browser."""

    def __init__(self, plant: ConsolePlant, browser: Any) -> None:  # noqa: ANN401 - of playwright
        self.plant = plant
        self.browser = browser

    @contextmanager
    def viewer(self, place: str, url: str | None = None) -> Iterator[Looking]:
        """Open a page of a viewer."""
        context = self.browser.new_context(viewport={"width": 1280, "height": 900})
        yield Looking(context, url or self.plant.url).log_in("viewer").go(place)
        context.close()

    def message_to_pixels_ms(self) -> list[float]:
        """Return the time from `ready` at an MQTT client to the frame that shows it, of each change."""
        agent, found = self.plant.agent, []
        with self.viewer("plant") as looking:
            looking.within(lambda: looking.ready() is not None, 30)
            looking.page.evaluate(WATCH_READY)
            mark = len(agent.heard)
            for number in range(SAMPLES):
                agent.ready(("17", "bottle-500")[number % 2])
                looking.page.wait_for_timeout(100)
            seen = looking.page.evaluate("window.seen")
            offset_s = time.time() - time.monotonic()
            said = [(one.payload.decode(), (one.at_s + offset_s) * 1000) for one in agent.on("line/line-1/ready", mark)]
            for value, at_ms in said:
                drawn = [drawn_ms - at_ms for word, drawn_ms in seen if word == value and -50 < drawn_ms - at_ms < 5000]
                found.extend(drawn[:1])
        return found

    def ages_ms(self, seconds: float, url: str | None = None) -> tuple[list[float], float]:
        """Return the ages of the picture at each frame of the browser, and the pictures a second."""
        with self.viewer("line/line-1", url) as looking:
            looking.within(lambda: looking.frame("cam-1") > 0, 60)
            looking.page.wait_for_timeout(2000)
            found = looking.page.evaluate(SAMPLE_AGES, seconds)
        return found["ages"], found["shown"] / seconds

    def rates(self, viewers: int) -> tuple[float, float]:
        """Return frames a second and p99 latency (ms) of the first stream, with so many pages that look at it."""
        agent = self.plant.agent
        with ExitStack() as pages:
            for _ in range(viewers):
                pages.enter_context(self.viewer("line/line-1"))
            mark, end_s = len(agent.heard), time.monotonic() + SECONDS
            agent.until(lambda: time.monotonic() > end_s, SECONDS + 30)
            told = [json.loads(one.payload)["streams"]["cam-1"] for one in agent.on("health", mark)]
        return statistics.median(one["fps"] for one in told), statistics.median(
            one["latency_ms"]["p99"] for one in told
        )

    def first_load(self) -> tuple[int, int]:
        """Return the bytes over the wire until the plant is drawn, without pictures, and the foreign requests."""
        context = self.browser.new_context()
        looking = Looking(context, self.plant.url)
        session = context.new_cdp_session(looking.page)
        session.send("Network.enable")
        wired: list[float] = []
        session.on("Network.loadingFinished", lambda event: wired.append(event["encodedDataLength"]))
        looking.log_in("viewer").go("plant")
        looking.page.wait_for_timeout(2000)
        foreign = len(looking.foreign)
        context.close()
        return round(sum(wired)), foreign

    def memory(self) -> dict[str, float]:
        """Return the growth of the browser's heap and the web process over 20,000 documents."""
        agent = self.plant.agent
        web = agent.child("agent.web.web_process")
        with self.viewer("plant") as looking:
            session = looking.page.context.new_cdp_session(looking.page)
            session.send("Performance.enable")

            def sizes() -> tuple[float, float]:
                session.send("HeapProfiler.collectGarbage")
                metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
                return metrics["JSHeapUsedSize"], psutil.Process(web.pid).memory_full_info().pss

            begun, before = len(agent.heard), (0.0, 0.0)
            number = 0
            while (heard := self._documents(begun)) < EVENTS:
                if heard >= SETTLED_EVENTS and before == (0.0, 0.0):
                    before = sizes()
                agent.ready(("17", "bottle-500")[number % 2])
                looking.page.wait_for_timeout(1)
                number += 1
            after = sizes()
        return {"browser": after[0] / before[0], "web_process": after[1] / before[1], "events": heard}

    def _documents(self, begun: int) -> int:
        return sum(not one.topic.endswith("/detections") for one in self.plant.agent.heard[begun:])


def p95(values: list[float]) -> float:
    return round(float(np.percentile(values, 95)), 1)


def spread(values: list[float]) -> dict[str, float]:
    return {"p50": round(statistics.median(values), 1), "p95": p95(values)}


def _usual_pictures(folder: Path) -> None:
    """Replace the plant's videos by ones of 960x540 with the detail of a real scene."""
    chance = np.random.default_rng(1)
    ground = cv2.resize(chance.integers(0, 256, (135, 240, 3), np.uint8), (960, 540), interpolation=cv2.INTER_CUBIC)
    for name in ("one", "two", "three"):
        writer = cv2.VideoWriter(str(folder / f"{name}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (960, 540))
        for step in range(20):
            writer.write(np.roll(ground, 8 * step, axis=1))
        writer.release()


def measured(figures: Figures, tell: Callable[[str], object]) -> dict[str, Any]:
    """Return all figures."""
    found: dict[str, Any] = {}
    found["first_load_bytes"], found["foreign_requests"] = figures.first_load()
    tell("message to pixels")
    pixels = figures.message_to_pixels_ms()
    found["message_to_pixels_ms"] = {
        "p50": round(statistics.median(pixels), 1),
        "p95": p95(pixels),
        "samples": len(pixels),
    }
    tell("age of pictures")
    ages, rate = figures.ages_ms(20)
    found["picture_age_ms"] = {
        "p50": round(statistics.median(ages), 1),
        "p95": p95(ages),
        "frame_ms": 1000 / FPS,
        "per_s": rate,
    }
    tell("a slow reader")
    with slow_link(figures.plant.port, SLOW_BYTES_PER_S) as port, ExitStack() as beside:
        other = beside.enter_context(figures.viewer("line/line-1"))
        slow, slow_rate = figures.ages_ms(60, f"http://127.0.0.1:{port}")
        last = slow[-len(slow) // 10 :]
        watched = other.page.evaluate(SAMPLE_AGES, 5)
    found["slow_reader"] = {
        "age_after_60_s_ms": round(statistics.median(last), 1),
        "age_p95_ms": p95(last),
        "per_s": slow_rate,
        "other_per_s": watched["shown"] / 5,
        "other_age_p95_ms": p95(watched["ages"]),
    }
    tell("the line with three viewers and with none")
    pairs = [(figures.rates(0), figures.rates(3)) for _ in range(3)]
    found["three_viewers"] = {
        "fps_ratio": round(statistics.median(with_[0] / without[0] for without, with_ in pairs), 3),
        "p99_ratio": round(statistics.median(with_[1] / without[1] for without, with_ in pairs), 3),
        "pairs": pairs,
    }
    tell("20,000 events")
    found["growth"] = figures.memory()
    return found


def main() -> None:
    """Print the figures."""
    with ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="console-figures-")))
        broker = Mosquitto(folder, persistence=False, more=())
        broker.start()
        undo.callback(broker.kill)
        peer = undo.enter_context(connected(LinkSettings("127.0.0.1", broker.port, "plc")))
        plant = ConsolePlant(folder / "agent", broker, peer)
        _usual_pictures(folder / "agent")
        plant.start()
        undo.callback(plant.agent.kill)
        playwright = undo.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        undo.callback(browser.close)
        found = measured(Figures(plant, browser), lambda word: sys.stderr.write(f"{word} ...\n"))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
