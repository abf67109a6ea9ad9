"""One run: an agent with two streams at 15 fps, a broker, a proxy between them, and what goes wrong."""

import itertools
import json
import os
import struct
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chaos.faults import Fault
from chaos.history import History, Verdict
from chaos.proxy import Proxy
from chaos.truth import Truth
from support.brokers import Mosquitto
from support.running_agent import BASE, RunningAgent

from agent.mqtt.blocking_client import BlockingClient, BlockingClientError
from agent.mqtt.endpoint.link_settings import LinkSettings

FPS: Final = 15
SLOW_BYTES_PER_S: Final = 8000.0
DISK: Final = "24m"
CLOCK: Final = Path(__file__).with_name("settable_clock.py")
DRAIN_S: Final = 240.0
_CALM_S: Final = 5.0
_ORDER_S: Final = 3.0
_TRUTHS: Final = {f"{BASE}/line/line-1/ready": "ready", f"{BASE}/status": "status"}
_DISK_FULL_REST_S: Final = 8.0


@dataclass(frozen=True)
class Outcome:
    """Verdict on the wire, messages that the agent dropped by its own count, and number of boots.

    `lies`: how often the broker named a product for longer than it may, against the agent's will; `named`: how often it
    named one at all; `refused`: how many messages the broker would not take.
    """

    verdict: Verdict
    dropped: int
    boots: int
    messages_per_s: float
    lies: int = 0
    named: int = 0
    refused: int = 0


class Ordeal:
    """Owns everything of one run, in a `with` block."""

    def __init__(self, folder: Path, mode: str, *, keepalive_s: int = 4) -> None:
        self.history = History()
        self._folder = folder
        self._undo = ExitStack()
        (folder / "broker").mkdir(parents=True)
        self.broker = Mosquitto(folder / "broker", persistence=True, more=("max_queued_messages 100000",))
        self.proxy = Proxy(self.broker.port, self.history)
        self._peer = BlockingClient(LinkSettings("127.0.0.1", self.broker.port, ""))
        self._mode = mode
        self._keepalive_s = keepalive_s
        self._state = folder / "state"
        self._clock = folder / "clock"
        self._dropped: dict[str, int] = {}
        self._truth = Truth()
        self._is_unheard = False
        self._orders = itertools.cycle(["bottle-500", "pallet", "17", "pallet"])
        self._order_s = 0.0
        self._agent: RunningAgent | None = None

    @property
    def agent(self) -> RunningAgent:
        assert self._agent is not None
        return self._agent

    def __enter__(self) -> "Ordeal":  # noqa: PYI034 - Self is not in typing before 3.11
        undo = self._undo
        self._mount()
        self.broker.start()
        undo.callback(self.broker.kill)
        self.proxy.on_state = self._wanted
        self.proxy.start()
        undo.callback(self.proxy.stop)
        self._peer.connect()
        undo.callback(self._peer.close)
        self._agent = RunningAgent(self._folder, f"mqtt://127.0.0.1:{self.proxy.port}", self._peer, self._settings)
        self._set_clock(0.0)
        self._agent.executable = python_with_clock(self._folder / "python")
        self._agent.environment = {"CHANGEOVER_TEST_CLOCK": str(self._clock)}
        self._agent.start()
        undo.callback(self._agent.kill)
        self._agent.until_said("status", "online")
        self._agent.until(lambda: self.history.verdict().messages > 2 * FPS)
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def suffer(self, faults: Iterable[Fault]) -> Outcome:
        """Go through all faults, let everything be replayed, and judge."""
        began_s = time.monotonic()
        for fault in faults:
            self._watch(fault.after_s)
            self._begin(fault)
            self._watch(fault.lasts_s / 2)
            if fault.kills:
                self._kill_agent()
            self._watch(fault.lasts_s / 2)
            self._end(fault)
        passed_s = time.monotonic() - began_s
        self._drain()
        *boots, last = self.history.boots()
        verdict = self.history.verdict(without=last)
        dropped = sum(self._dropped.values())
        truth = self._truth
        rate = verdict.messages / passed_s
        return Outcome(verdict, dropped, len(boots), rate, truth.lies, truth.named, self.proxy.refused)

    def _settings(self, settings: dict[str, Any]) -> None:
        settings["stream"] = settings["stream"][:2]
        for stream in settings["stream"]:
            stream["fps"] = FPS
        del settings["line"]["line-2"]
        settings["device"]["state_dir"] = str(self._state)
        settings["mqtt"]["keepalive_s"] = self._keepalive_s
        settings["outbox"] = {"detections": self._mode}

    def _mount(self) -> None:
        """Give the agent's state a small disk of its own, where we may."""
        self._state.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(self._state)]
        if os.geteuid() == 0 and subprocess.run(command, check=False, capture_output=True).returncode == 0:
            self._undo.callback(subprocess.run, ["umount", "-l", str(self._state)], check=False)

    def _begin(self, fault: Fault) -> None:
        begin: dict[str, Callable[[], object]] = {
            "delay": lambda: setattr(self.proxy, "delay_s", fault.delay_s),
            "cut": self.proxy.cut,
            "refuse": self.proxy.refuse,
            "black hole": lambda: setattr(self.proxy, "is_hole", True),
            "half-open": self.proxy.half_open,
            "slow": lambda: setattr(self.proxy, "bytes_per_s", SLOW_BYTES_PER_S),
            "broker killed": self.broker.kill,
            "broker frozen": self.broker.freeze,
            "agent killed": self._kill_agent,
            "disk full": self._fill_disk,
            "clock set": lambda: self._set_clock(fault.ahead_s),
            "refusals": lambda: setattr(self.proxy, "refused_share", fault.share),
        }
        self._is_unheard = fault.kind in {"broker killed", "broker frozen"}
        self.history.happened(f"{fault.kind} begins")
        begin[fault.kind]()

    def _end(self, fault: Fault) -> None:
        self.proxy.heal()
        self.history.happened(f"{fault.kind} ends")
        self._is_unheard = False
        match fault.kind:
            case "black hole":
                # what it swallowed is gone, and no connection survives that
                self.proxy.cut()
            case "broker killed":
                self.broker.start()
            case "broker frozen":
                self.broker.thaw()
            case "disk full":
                (self._state / "ballast").unlink(missing_ok=True)
                self._watch(_DISK_FULL_REST_S)

    def _wanted(self, topic: str, payload: bytes) -> None:
        if topic == f"{BASE}/line/line-1/ready":
            self._truth.wants(payload)

    def _order(self) -> None:
        """Be a PLC that changes its mind: every other product is none."""
        if self._is_unheard or time.monotonic() < self._order_s:
            return
        self._order_s = time.monotonic() + _ORDER_S
        with suppress(BlockingClientError):
            self._peer.publish(f"{BASE}/line/line-1/product/set", next(self._orders), timeout_s=0.5)

    def _look(self) -> None:
        if self._is_unheard:
            self._truth.forget()
        else:
            self._truth.look()

    def _kill_agent(self) -> None:
        self.history.happened("the agent is killed")
        self.agent.kill()
        self._truth.wants(b"0")
        self.agent.start()

    def _set_clock(self, ahead_s: float) -> None:
        # in place: the agent has it mapped
        with self._clock.open("r+b" if self._clock.exists() else "wb") as file:
            file.write(struct.pack("d", ahead_s))

    def _fill_disk(self) -> None:
        if not os.path.ismount(self._state):
            return
        with suppress(OSError), (self._state / "ballast").open("wb") as file:
            while True:
                file.write(bytes(65536))
                file.flush()

    def _watch(self, seconds: float) -> None:
        limit_s = time.monotonic() + seconds
        while (left_s := limit_s - time.monotonic()) > 0:
            self._note(min(left_s, 0.1))
            self._order()
            self._look()

    def _note(self, timeout_s: float) -> None:
        arrival = self._peer.receive(timeout_s)
        while arrival is not None:
            if arrival.topic == f"{BASE}/health":
                outbox = json.loads(arrival.payload)["outbox"]
                boot = self.history.boots()[-1]
                self._dropped[boot] = outbox["detections_dropped"] + outbox["events_dropped"]
            elif arrival.topic in _TRUTHS:
                self._truth.says(_TRUTHS[arrival.topic], arrival.payload)
            arrival = self._peer.receive(0)

    def _drain(self) -> None:
        """Let all be replayed; then stop in good order, and let one more boot bring what that left on the disk."""
        limit_s = time.monotonic() + DRAIN_S
        calm_s = 0.0
        while calm_s < _CALM_S and time.monotonic() < limit_s:
            self._watch(1)
            calm_s = calm_s + 1 if self.history.open() <= 2 * FPS else 0
        before = len(self.history.boots())
        self.agent.stop()
        self.agent.start()
        limit_s = time.monotonic() + DRAIN_S / 2
        while time.monotonic() < limit_s:
            self._watch(1)
            boots = self.history.boots()
            if len(boots) > before and not self.history.verdict(without=boots[-1]).lost:
                break
        self.agent.stop()
        self._note(0.5)


def python_with_clock(folder: Path) -> str:
    """Return a Python of its own that imports the clock at each start: isolated children hear of no other way."""
    venv.create(folder, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    ours = [path for path in sys.path if path.endswith("-packages")]
    lines = [*(f"import site; site.addsitedir({path!r})" for path in ours), f"import {CLOCK.stem}"]
    (packages / CLOCK.name).write_text(CLOCK.read_text())
    (packages / "clock.pth").write_text("\n".join(lines) + "\n")
    return str(folder / "bin" / "python")
