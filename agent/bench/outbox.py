"""`changeover bench outbox`: rates at which messages are kept and replayed, and the latency of live ones meanwhile."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from agent.bench.figures import percentile
from agent.bench.options import Options
from agent.bench.plant.broker import mosquitto
from agent.messages.errors import TransientError
from agent.messages.events import LinkUp, Listening
from agent.messages.topics import Topics
from agent.mqtt.blocking_client import BlockingClient, connected
from agent.mqtt.endpoint.link_settings import LinkSettings
from agent.mqtt.link.link import Link
from agent.mqtt.outbox.outbox import Outbox
from agent.mqtt.outbox.outbox_item import Kind
from agent.mqtt.outbox.sqlite_store import Bounds
from agent.mqtt.publishing.publisher import Publisher
from agent.processes.loop import Loop

HOUR: Final = 108_000
"""Detections of two streams at 15 frames a second in an hour."""
_LIVE_PER_S: Final = 30
_ON_THE_WAY: Final = 2
_TOGETHER: Final = 64
_STEADY_S: Final = 20.0
_PAYLOAD_BYTES: Final = 600
_LIMIT_S: Final = 900.0
_CHAOS: Final = Path(__file__).parents[2] / "tests" / "chaos"


def run(options: Options) -> dict[str, Any]:
    """Replay an hour's detections beside live ones, then run a minute of faults."""
    with mosquitto(options.folder / "broker", nodelay=True) as port:
        if options.quick:
            return measure(port, options.folder, stored=HOUR // 50, chaos_s=0)
        return measure(port, options.folder)


def measure(port: int, folder: Path, *, stored: int = HOUR, chaos_s: float = 60.0) -> dict[str, Any]:
    """Return the figures, with a broker on loopback `port`. Raises TransientError after a timeout."""
    station = _Station(port, folder)
    try:
        kept_per_s = station.keep(stored)
        with connected(LinkSettings("127.0.0.1", port, "")) as peer:
            peer.subscribe([station.topics.of_stream("live", "detections")])
            station.connect()
            # the live ones on their way are not part of what is replayed
            replaying_ms, replay_s = station.live_while(
                peer, lambda: station.outbox.depth(Kind.DETECTION) > _ON_THE_WAY
            )
            steady_ms, _ = station.live_while(peer, _for(_STEADY_S))
    finally:
        station.close()
    steady = _percentiles(steady_ms)
    replaying = _percentiles(replaying_ms)
    return {
        "stored": stored,
        "kept_per_s": kept_per_s,
        "replayed_per_s": stored / replay_s,
        "live_ms": {"steady": steady, "during_replay": replaying},
        "live_added_ms": {name: replaying[name] - steady[name] for name in steady},
        **_under_faults(chaos_s),
    }


class _Station:
    """Link, publisher and loop, composed as in control."""

    def __init__(self, port: int, folder: Path) -> None:
        self.topics: Final = Topics("changeover/v1", "bench")
        self._loop: Final = Loop()
        settings = LinkSettings("127.0.0.1", port, "changeover-bench", ping_topic=self.topics.ping)
        self._link: Final = Link(settings, self._loop, self._loop.put)
        self.outbox: Final = Outbox(Bounds(1 << 30, 86400.0), folder / "outbox.db")
        self._publisher: Final = Publisher(self._link, self.topics, self.outbox)
        self._publisher.start(self._loop)
        self._sent = 0

    def keep(self, count: int) -> float:
        """Send `count` messages without a link; return the rate at which they reached the disk."""
        began_s = time.monotonic()
        for number in range(count):
            self._publisher.send_detection("stored", _payload(number))
            if number % _TOGETHER == 0:
                self._turn(0)
                self._until(lambda: self.outbox.waiting_bytes == 0)
        self._until(lambda: self.outbox.disk_bytes == self.outbox.size_bytes)
        if self.outbox.dropped(Kind.DETECTION):
            raise TransientError("the disk is too slow for this benchmark: messages were dropped")
        return count / (time.monotonic() - began_s)

    def connect(self) -> None:
        """Connect, upon which the replay begins."""
        self._link.start()
        self._until(lambda: self._link.round_trip_ms is not None)

    def live_while(self, peer: BlockingClient, goes_on: Callable[[], bool]) -> tuple[list[float], float]:
        """Send 30 live detections a second while `goes_on`; return their latencies in ms, and the time taken."""
        began_s, due_s = time.monotonic(), time.monotonic()
        sent_s: dict[bytes, float] = {}
        found_ms: list[float] = []
        while goes_on():
            if time.monotonic() - began_s > _LIMIT_S:
                raise TransientError(f"the outbox was not replayed within {_LIMIT_S:g} s")
            if time.monotonic() >= due_s:
                due_s += 1 / _LIVE_PER_S
                self._sent += 1
                payload = _payload(self._sent)
                sent_s[payload] = time.monotonic()
                self._publisher.send_detection("live", payload)
            self._turn(max(0.0, min(0.02, due_s - time.monotonic())))
            while (arrival := peer.receive(0)) is not None:
                if (at_s := sent_s.pop(arrival.payload, None)) is not None:
                    found_ms.append((arrival.at_s - at_s) * 1000)
        return found_ms, time.monotonic() - began_s

    def close(self) -> None:
        self._publisher.stop([], 2.0)
        self._loop.close()

    def _until(self, is_done: Callable[[], bool]) -> None:
        limit_s = time.monotonic() + _LIMIT_S
        while not is_done():
            if time.monotonic() > limit_s:
                raise TransientError("the disk or the broker did not answer")
            self._turn(0.02)

    def _turn(self, timeout_s: float) -> None:
        self._loop.run_once(timeout_s, self._handle)
        self._link.tick(time.monotonic())
        self._publisher.tick()

    def _handle(self, event: object) -> None:
        if self._link.handle(event):
            return
        if isinstance(event, LinkUp):
            self._link.listen([])
        elif isinstance(event, Listening):
            self._publisher.announce()


def _payload(number: int) -> bytes:
    return f'{{"seq":{number},'.encode().ljust(_PAYLOAD_BYTES, b"x")


def _for(seconds: float) -> Callable[[], bool]:
    until_s = time.monotonic() + seconds
    return lambda: time.monotonic() < until_s


def _percentiles(values: list[float]) -> dict[str, float]:
    return {f"p{share}": percentile(values, share) for share in (50, 99)}


def _under_faults(seconds: float) -> dict[str, Any]:
    """Run the tests' fault script and return its figures; None for each in an installation without tests."""
    if not seconds or not _CHAOS.is_dir():
        return {"lost": None, "repeated": None}
    paths = os.pathsep.join([str(_CHAOS.parent), str(_CHAOS.parents[1])])
    command = [sys.executable, "-m", "chaos", "--mode", "always", "--seed", "1", "--seconds", str(seconds)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=_LIMIT_S, check=False
    )
    if done.returncode:
        raise TransientError(f"the fault script failed: {done.stderr[-300:]}")
    figures = json.loads(done.stdout.splitlines()[-1])
    return {"lost": figures["lost"], "repeated": figures["repeated_share"], "faults": figures}
