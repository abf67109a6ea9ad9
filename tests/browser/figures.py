"""The console's figures, on this machine, as one line of JSON; takes about eight minutes.

Run in tests/: `../.venv/bin/python -m browser.figures [NAME...]`, for all of them or those that are named. Needs what
scripts/browser brings, and a quiet machine.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from playwright.sync_api import sync_playwright
from support.brokers import Mosquitto
from support.console_plant import CHROMIUM, ConsolePlant, Looking, usual_pictures
from support.running_agent import FPS
from support.slow_link import slow_link

from agent.mqtt.blocking_client import connected
from agent.mqtt.endpoint.link_settings import LinkSettings

SAMPLES = 40
SECONDS = 30.0
SETTLES_S = 12.0
EVENTS = 20_000
SETTLED_EVENTS = 4_000
BATCH = 10
SLOW_BYTES_PER_S = 150_000
COUNT_EVENTS = """() => {
  window.events = 0;
  const Plain = EventSource;
  window.EventSource = class extends Plain {
    constructor(...given) {
      super(...given);
      this.addEventListener("message", () => window.events++);
    }
  };
}"""
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
    """One plant with pictures of a usual size, and browsers.

    `distant` is a browser at idle priority. It stands for viewers on machines of their own, whose drawing would
    otherwise take the line's processor here.
    """

    def __init__(self, plant: ConsolePlant, browser: Any, distant: Any) -> None:  # noqa: ANN401 - of playwright
        self.plant = plant
        self.browser = browser
        self.distant = distant

    @contextmanager
    def viewer(self, place: str, url: str | None = None, browser: Any = None) -> Iterator[Looking]:  # noqa: ANN401
        """Open a page of a viewer."""
        context = (browser or self.browser).new_context(viewport={"width": 1280, "height": 900})
        context.add_init_script(f"({COUNT_EVENTS})()")
        yield Looking(context, url or self.plant.url).log_in("viewer").go(place)
        context.close()

    def message_to_pixels(self) -> dict[str, float]:
        """Return the ms from `ready` at an MQTT client to the browser's frame that shows it, of each change."""
        agent = self.plant.agent
        found: list[float] = []
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
        return {**spread(found), "samples": len(found)}

    def picture_age(self) -> dict[str, float]:
        ages, rate = self.ages_ms(20)
        return {**spread(ages), "frame_ms": 1000 / FPS, "per_s": rate}

    def slow_reader(self) -> dict[str, float]:
        with slow_link(self.plant.port, SLOW_BYTES_PER_S) as port, ExitStack() as beside:
            other = beside.enter_context(self.viewer("line/line-1"))
            other.within(lambda: other.frame("cam-1") > 0, 60)
            alone = other.page.evaluate(SAMPLE_AGES, 10)
            ages, rate = self.ages_ms(60, f"http://127.0.0.1:{port}")
            last = ages[-len(ages) // 10 :]
            watched = other.page.evaluate(SAMPLE_AGES, 10)
        return {
            "age_after_60_s_ms": round(statistics.median(last), 1),
            "age_p95_ms": p95(ages),
            "age_most_ms": round(max(ages), 1),
            "per_s": rate,
            "other_before_per_s": alone["shown"] / 10,
            "other_per_s": watched["shown"] / 10,
            "other_before_age_p95_ms": p95(alone["ages"]),
            "other_age_p95_ms": p95(watched["ages"]),
        }

    def three_viewers(self) -> dict[str, Any]:
        """Return the ratios of a line with three viewers to one with none, in turn; `beside` with drawing as usual."""
        rounds = [(self.rates(0, None), self.rates(3, self.distant), self.rates(3, self.browser)) for _ in range(3)]
        return {
            **_ratios([(without, distant) for without, distant, _ in rounds], ""),
            **_ratios([(without, near) for without, _, near in rounds], "beside_"),
            "rounds": rounds,
        }

    def ages_ms(self, seconds: float, url: str | None = None) -> tuple[list[float], float]:
        """Return the ages of the picture at each frame of the browser, and the pictures a second."""
        with self.viewer("line/line-1", url) as looking:
            looking.within(lambda: looking.frame("cam-1") > 0, 60)
            looking.page.wait_for_timeout(2000)
            found = looking.page.evaluate(SAMPLE_AGES, seconds)
        return found["ages"], found["shown"] / seconds

    def rates(self, viewers: int, browser: Any) -> tuple[float, float]:  # noqa: ANN401 - of playwright
        """Return frames a second and p99 latency (ms) of the first stream, with so many pages that look at it."""
        agent = self.plant.agent
        with ExitStack() as pages:
            for _ in range(viewers):
                pages.enter_context(self.viewer("line/line-1", browser=browser))
            settled_s = time.monotonic() + SETTLES_S  # `health` tells of a window of the last seconds
            agent.until(lambda: time.monotonic() > settled_s, SECONDS)
            mark, end_s = len(agent.heard), time.monotonic() + SECONDS
            agent.until(lambda: time.monotonic() > end_s, SECONDS + 30)
            told = [json.loads(one.payload)["streams"]["cam-1"] for one in agent.on("health", mark)]
        return statistics.median(one["fps"] for one in told), statistics.median(
            one["latency_ms"]["p99"] for one in told
        )

    def first_load(self) -> dict[str, int]:
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
        return {"bytes": round(sum(wired)), "foreign_requests": foreign}

    def growth(self) -> dict[str, float]:
        """Return the sizes of browser and web process after 20,000 events at the page over those after the first."""
        agent = self.plant.agent
        web = psutil.Process(agent.child("agent.web.web_process").pid)
        with self.viewer("plant") as looking:
            session = looking.page.context.new_cdp_session(looking.page)
            session.send("Performance.enable")

            def sizes() -> dict[str, float]:
                session.send("HeapProfiler.collectGarbage")
                metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
                pss = web.memory_full_info().pss
                return {"heap": metrics["JSHeapUsedSize"], "nodes": metrics["Nodes"], "web_process": pss}

            def until(events: int) -> None:
                while looking.page.evaluate("window.events") < events:
                    for number in range(BATCH):
                        agent.send_at_once(("line/line-1/product/set", ("17", "no-such", "bottle-500")[number % 3]))
                        looking.page.wait_for_timeout(10)
                    agent.ready("crate")
                    agent.heard.clear()

            until(SETTLED_EVENTS)
            before = sizes()
            until(EVENTS)
            after = sizes()
        ratios = {name: round(after[name] / before[name], 3) for name in before}
        return {**ratios, "events": EVENTS, "web_process_bytes": after["web_process"], "heap_bytes": after["heap"]}


def _ratios(pairs: list[tuple[tuple[float, float], tuple[float, float]]], name: str) -> dict[str, float]:
    return {
        f"{name}{what}_ratio": round(statistics.median(with_[at] / without[at] for without, with_ in pairs), 3)
        for at, what in enumerate(("fps", "p99"))
    }


def p95(values: list[float]) -> float:
    return round(float(np.percentile(values, 95)), 1)


def spread(values: list[float]) -> dict[str, float]:
    return {"p50": round(statistics.median(values), 1), "p95": p95(values)}


NAMES = ("first_load", "message_to_pixels", "picture_age", "slow_reader", "three_viewers", "growth")


def _at_idle_priority(folder: Path) -> str:
    """Write a program that is Chromium at idle priority, and return its path."""
    path = folder / "idle-chromium"
    path.write_text(f'#!/bin/sh\nexec chrt --idle 0 {CHROMIUM} "$@"\n')
    path.chmod(0o755)
    return str(path)


def main() -> None:
    """Print the figures."""
    names = sys.argv[1:] or list(NAMES)
    with ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="console-figures-")))
        broker = Mosquitto(folder, persistence=False, more=())
        broker.start()
        undo.callback(broker.kill)
        peer = undo.enter_context(connected(LinkSettings("127.0.0.1", broker.port, "plc")))
        plant = ConsolePlant(folder / "agent", broker, peer)
        usual_pictures(folder / "agent")
        plant.start()
        undo.callback(plant.agent.kill)
        playwright = undo.enter_context(sync_playwright())
        browsers = []
        for program in (CHROMIUM, _at_idle_priority(folder)):
            browsers.append(playwright.chromium.launch(executable_path=program, args=["--no-sandbox"]))
            undo.callback(browsers[-1].close)
        figures, found = Figures(plant, *browsers), {}
        for name in names:
            sys.stderr.write(f"{name} ...\n")
            found[name] = getattr(figures, name)()
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
