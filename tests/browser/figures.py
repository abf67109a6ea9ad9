"""The console's figures, on this machine, as one line of JSON; takes about twenty minutes.

Run in tests/: `../.venv/bin/python -m browser.figures [NAME...]`, for all of them or those that are named. Needs what
scripts/browser brings, and a quiet machine.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from browser.blocks import Block, compared, cpu_s
from browser.viewers import pulling
from playwright.sync_api import sync_playwright
from support.brokers import Mosquitto
from support.console_plant import CHROMIUM, ConsolePlant, Looking, usual_pictures
from support.running_agent import FPS
from support.slow_link import slow_link

from agent.mqtt.blocking_client import connected
from agent.mqtt.endpoint.link_settings import LinkSettings

SAMPLES = 200
VIEWERS = 3
SETTLES_S = 3.5
"""A stream is watched for 3 s after the last request of a page."""
PULLED_ROUNDS, PULLED_S = 20, 8.0
SHOWN_ROUNDS, SHOWN_S = 4, 20.0
EVENTS = 20_000
SETTLED_EVENTS = 4_000
BATCH = 10
SLOW_BYTES_PER_S = 150_000
STREAMS = ("cam-1", "cam-2")
"""Those of line-1."""
COUNT_EVENTS = """() => {
  window.events = 0;
  window.came = {};
  const Plain = EventSource;
  window.EventSource = class extends Plain {
    constructor(...given) {
      super(...given);
      this.addEventListener("message", ({ data }) => {
        window.events++;
        const { topic, doc } = JSON.parse(data);
        if (topic === "line/line-1/ready") window.came[doc] ??= performance.timeOrigin + performance.now();
      });
    }
  };
}"""
"""Counts the events of a page, and notes when each `ready` came first."""
WATCH_READY = """() => {
  window.drawn = {};
  const target = document.querySelector('[data-line=line-1] .ready');
  new MutationObserver(() => {
    const said = target.dataset.ready;
    requestAnimationFrame(() => window.drawn[said] ??= performance.timeOrigin + performance.now());
  }).observe(target, { attributes: true, attributeFilter: ['data-ready'] });
}"""
"""Notes when the browser began the frame after the one in which a `ready` stood first: its pixels were out by then."""
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

    def message_to_pixels(self) -> dict[str, Any]:
        """Return the ms from a message at an MQTT client to the browser's frame that shows it.

        Each message has a product of its own, so each is paired with its own pixels; one that never showed is missed.
        """
        agent, products = self.plant.agent, numbered_products()
        sent_ms: dict[str, float] = {}
        with self.viewer("plant") as looking:
            looking.within(lambda: looking.ready() is not None, 30)
            looking.page.evaluate(WATCH_READY)
            mark = len(agent.heard)
            for number, product in enumerate(products):
                sent_ms[product] = time.time() * 1000
                agent.ready(product)
                looking.page.wait_for_timeout(60 + 37 * number % 101)  # in step neither with a camera nor with a beat
            looking.page.wait_for_timeout(2000)
            came, drawn = looking.page.evaluate("[window.came, window.drawn]")
        offset_s = time.time() - time.monotonic()
        said_ms = {one.payload.decode(): (one.at_s + offset_s) * 1000 for one in agent.on("line/line-1/ready", mark)}
        agent.ready("bottle-500")
        shown = [one for one in products if one in drawn]
        return {
            **spread([drawn[one] - said_ms[one] for one in shown]),
            "samples": len(shown),
            "missed": len(products) - len(shown),
            "to_page": spread([came[one] - said_ms[one] for one in products if one in came]),
            "from_command": spread([drawn[one] - sent_ms[one] for one in shown]),
        }

    def picture_age(self) -> dict[str, float]:
        ages, rate = self.ages_ms(20)
        return {**spread(ages), "frame_ms": 1000 / FPS, "per_s": rate}

    def slow_reader(self) -> dict[str, float]:
        with slow_link(self.plant.port, SLOW_BYTES_PER_S) as link, ExitStack() as beside:
            other = beside.enter_context(self.viewer("line/line-1"))
            other.within(lambda: other.frame("cam-1") > 0, 60)
            alone = other.page.evaluate(SAMPLE_AGES, 10)
            ages, rate = self.ages_ms(60, f"http://127.0.0.1:{link.port}")
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
        """Return the ratios of a line with three viewers to one with none, in turn.

        The viewers pull what pages pull, at idle priority, and draw nothing: they stand for machines of their own, so
        that the figure is what the agent pays for them.
        """
        rates: list[float] = []
        sizes = self.sizes_of_a_page()
        with pulling(self.plant.url, VIEWERS, sizes) as look:
            without, pulled = self.in_turn([nullcontext, lambda: look(rates)], PULLED_ROUNDS, PULLED_S)
        return {**compared(without, pulled), "sizes": sizes, "pulled_per_s": round(statistics.median(rates), 2)}

    def three_browsers(self) -> dict[str, Any]:
        """Return the same with three pages of Chromium on this machine, at idle priority, and `beside` as it is."""
        pages = [lambda: self.pages(self.distant), lambda: self.pages(self.browser)]
        without, distant, near = self.in_turn([nullcontext, *pages], SHOWN_ROUNDS, SHOWN_S)
        return {**compared(without, distant), "beside": compared(without, near)}

    def in_turn(
        self, kinds: Sequence[Callable[[], AbstractContextManager[Any]]], rounds: int, seconds: float
    ) -> list[list[Block]]:
        """Return the blocks of each kind of viewers, which took turns; no kind always goes first."""
        found: list[list[Block]] = [[] for _ in kinds]
        for number in range(rounds):
            order = list(range(len(kinds)))
            for at in order if number % 2 == 0 else reversed(order):
                with kinds[at]():
                    found[at].append(self.block(seconds))
        return found

    def block(self, seconds: float) -> Block:
        """Return what line-1 and the agent's processes did in some seconds, once they have settled."""
        agent = self.plant.agent
        self._pass(SETTLES_S)
        mark, before, begun_s = len(agent.heard), cpu_s(agent.process.pid), time.monotonic()
        self._pass(seconds)
        after, took_s = cpu_s(agent.process.pid), time.monotonic() - begun_s
        latencies = [one["latency_ms"] for name in STREAMS for one in agent.detections(name, mark)]
        cpu = {name: round(1000 * (after[name] - before.get(name, 0.0)) / took_s, 1) for name in after}
        return Block(len(latencies) / len(STREAMS) / took_s, latencies, cpu)

    def _pass(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        self.plant.agent.until(lambda: time.monotonic() > end_s, seconds + 30)

    @contextmanager
    def pages(self, browser: Any) -> Iterator[None]:  # noqa: ANN401 - of playwright
        """Run the block with three pages of line-1 that show pictures."""
        with ExitStack() as stack:
            for _ in range(VIEWERS):
                looking = stack.enter_context(self.viewer("line/line-1", browser=browser))
                looking.within(partial(_has_pictures, looking), 60)
            yield

    def sizes_of_a_page(self) -> dict[str, str]:
        """Return the size in which a page of line-1 asks for each stream's pictures."""
        asked: dict[str, str] = {}

        def sent(text: str | bytes) -> None:
            stream, _, size = str(text).split(" ")
            asked[stream] = size

        with self.viewer("line/line-1") as looking:
            looking.page.on("websocket", lambda one: one.on("framesent", sent))
            looking.page.reload()
            looking.within(lambda: asked.keys() >= set(STREAMS), 60)
            looking.page.wait_for_timeout(5000)
        return asked

    def ages_ms(self, seconds: float, url: str | None = None) -> tuple[list[float], float]:
        """Return the ages of the picture at each frame of the browser, and the pictures a second."""
        with self.viewer("line/line-1", url) as looking:
            looking.within(lambda: looking.frame("cam-1") > 0, 60)
            looking.page.wait_for_timeout(2000)
            found = looking.page.evaluate(SAMPLE_AGES, seconds)
        return found["ages"], found["shown"] / seconds

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


def _has_pictures(looking: Looking) -> bool:
    return all(looking.frame(name) > 0 for name in STREAMS)


def numbered_products() -> list[str]:
    """Return products of line-1 that have one model, so that a change between them loads nothing."""
    return [f"product-{number}" for number in range(SAMPLES)]


def _with_products(settings: dict[str, Any]) -> None:
    settings["line"]["line-1"]["products"] |= dict.fromkeys(numbered_products(), "alpha")


def p95(values: list[float]) -> float:
    return round(float(np.percentile(values, 95)), 1)


def spread(values: list[float]) -> dict[str, float]:
    return {"p50": round(statistics.median(values), 1), "p95": p95(values)}


NAMES = (
    "first_load",
    "message_to_pixels",
    "picture_age",
    "slow_reader",
    "three_viewers",
    "three_browsers",
    "growth",
)


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
        plant = ConsolePlant(folder / "agent", broker, peer, _with_products)
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
