"""A running agent with the console, and a browser that looks at it."""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from agent.mqtt.blocking_client import BlockingClient
from agent.web.console.access.users import ROLES, Role, Users
from support.brokers import Mosquitto
from support.running_agent import FPS, RunningAgent

CHROMIUM = "/usr/bin/chromium"
AXE = Path(__file__).parents[2] / ".cache" / "browser" / "axe.min.js"
PASSWORD = "a long password"
PAGES = ("plant", "line/line-1", "models", "alerts", "device")
RIGHT_WITHIN_S = 3.0
LOADED_WITHIN_MS = 30_000


class ConsolePlant:
    """An agent whose console is at `url`, with a user for each role."""

    def __init__(
        self,
        folder: Path,
        broker: Mosquitto,
        peer: BlockingClient,
        changes: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        """Take an agent whose settings `changes` alters before it starts."""
        self.broker = broker
        self._changes = changes
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.agent = RunningAgent(folder, broker.url, peer, self._with_console)
        users = Users(folder / "state")
        for role in ROLES:
            users.add(role, role, PASSWORD)

    def _with_console(self, settings: dict[str, Any]) -> None:
        settings["web"] = {"bind": f"127.0.0.1:{self.port}"}
        self._changes(settings)

    def start(self) -> None:
        """Start the agent, and wait until both lines are ready and the console answers."""
        self.agent.start()
        self.agent.until_said("status", "online")
        self.agent.ready("bottle-500")
        self.agent.ready("open", "line-2")
        self.agent.logged("event=web_serving")


class Looking:
    """One page of the console in a browser."""

    def __init__(self, context: Any, url: str) -> None:  # noqa: ANN401 - of playwright, which may not be installed
        self.page = context.new_page()
        self.url = url
        self.foreign: list[str] = []
        """Requests to other hosts."""
        self.complaints: list[str] = []
        """Errors of scripts, and what the Content-Security-Policy refused."""
        self.page.on("request", lambda request: self._requested(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._told)

    def _requested(self, url: str) -> None:
        if not url.startswith((self.url, self.url.replace("http", "ws"), "blob:", "data:")):
            self.foreign.append(url)

    def _told(self, line: Any) -> None:  # noqa: ANN401 - the same
        # Browsers themselves tell of answers such as 401 and of a lost device, which tests bring about.
        if line.type == "error" and "Failed to load resource" not in line.text and "net::ERR" not in line.text:
            self.complaints.append(line.text)

    def log_in(self, role: Role) -> "Looking":
        self.page.goto(f"{self.url}/")
        self.page.fill("input[name=name]", role)
        self.page.fill("input[name=password]", PASSWORD)
        self.page.click("button[type=submit]")
        self.page.wait_for_selector("header nav", timeout=LOADED_WITHIN_MS)
        return self

    def go(self, place: str) -> "Looking":
        """Go to a page, and wait until it is drawn."""
        self.page.goto(f"{self.url}/console/#/{place}")
        self.page.wait_for_selector("main .card, main .line-page", timeout=LOADED_WITHIN_MS)
        return self

    def within(self, is_right: Callable[[], object], deadline_s: float = RIGHT_WITHIN_S) -> float:
        """Wait until the page is right; return the seconds that it took, which fail beyond `deadline_s`."""
        begun_s = time.monotonic()
        while not is_right():
            took_s = time.monotonic() - begun_s
            assert took_s < deadline_s, f"not right within {deadline_s} s: {self.page.inner_text('body')[:1500]}"
            self.page.wait_for_timeout(30)
        return time.monotonic() - begun_s

    def attribute(self, selector: str, name: str) -> str | None:
        """Return an attribute of the first element that fits; None without one."""
        found = self.page.query_selector(selector)
        value: str | None = found.get_attribute(name) if found is not None else None
        return value

    def ready(self, line: str = "line-1") -> str | None:
        """Return the product for which the page says that a PLC may run; "0" for none, None where it is unknown."""
        return self.attribute(f"[data-line={line}] .ready", "data-live")

    def frame(self, stream: str) -> int:
        """Return the number of the frame that is drawn; 0 before the first."""
        return int(self.attribute(f"[data-stream={stream}] canvas", "data-frame") or 0)

    def has(self, selector: str) -> bool:
        return self.page.query_selector(selector) is not None

    def violations(self) -> list[str]:
        """Return what axe-core finds wrong with the page."""
        self.page.evaluate(AXE.read_text())
        found = self.page.evaluate("axe.run()")
        return [
            f"{one['id']}: {node['html'][:200]} {node.get('failureSummary', '')[:300]}"
            for one in found["violations"]
            for node in one["nodes"]
        ]


def usual_pictures(folder: Path) -> None:
    """Replace the plant's videos by ones of 960x540 with the detail of a real scene."""
    chance = np.random.default_rng(1)
    ground = cv2.resize(chance.integers(0, 256, (135, 240, 3), np.uint8), (960, 540), interpolation=cv2.INTER_CUBIC)
    for name in ("one", "two", "three"):
        writer = cv2.VideoWriter(str(folder / f"{name}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (960, 540))
        for step in range(20):
            writer.write(np.roll(ground, 8 * step, axis=1))
        writer.release()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
