"""A controller with one VisionInterlock a line: it orders products, scans each 20 ms, and notes what its belts did."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from plc.block import Inputs, VisionInterlock
from support.running_agent import BASE

CYCLE_S: Final = 0.02
_WATCHDOG_S: Final = 0.1
"""A controller's watchdog bounds its cycle; one that a busy machine stretched here counts as this long."""
_REPEAT_S: Final = 1.0
_KEEPALIVE_S: Final = 20


@dataclass
class Run:
    """A belt that ran for a product; times are of the wall clock, as those of the detections are."""

    product: str
    began_s: float
    ended_s: float


@dataclass(frozen=True)
class Message:
    payload: str
    retained: bool


class PlcLine:
    """The program of one line: its own connection, a queue of arrivals as vendors' libraries have, and the block."""

    def __init__(self, line: str, port: int) -> None:
        self.product = ""
        self.runs: list[Run] = []
        self.connects: list[float] = []
        self._topic: Final = f"{BASE}/line/{line}"
        self._block = VisionInterlock()
        self._queue: deque[Message] = deque()
        self._due_s = 0.0
        self._is_running = False
        self._client = paho.Client(CallbackAPIVersion.VERSION2, f"plc-{line}", clean_session=True)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._connected
        self._client.on_message = self._arrived
        self._client.connect_async("127.0.0.1", port, _KEEPALIVE_S)

    @property
    def is_running(self) -> bool:
        """True while the belt runs for the present product."""
        return self._is_running and self.runs[-1].product == self.product

    def start(self) -> None:
        self._client.loop_start()

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def scan(self) -> None:
        """Do one cycle: every message of the cycle in its order, then once without."""
        product, is_connected = self.product, self._client.is_connected()
        now_ms = round(time.monotonic() * 1000)
        while self._queue:
            one = self._queue.popleft()
            self._block.scan(Inputs(is_connected, True, one.retained, one.payload, product), now_ms)
        may_run = self._block.scan(Inputs(is_connected, False, False, "", product), now_ms)
        self._note(product, may_run=may_run)
        if is_connected and product and not may_run and time.monotonic() >= self._due_s:
            self._due_s = time.monotonic() + _REPEAT_S
            self._client.publish(f"{self._topic}/product/set", product, qos=1)

    def order(self, product: str) -> None:
        self.product, self._due_s = product, 0.0

    def _note(self, product: str, *, may_run: bool) -> None:
        now_s = time.time()
        if self._is_running:
            self.runs[-1].ended_s = now_s if may_run else min(now_s, self.runs[-1].ended_s + _WATCHDOG_S)
        if may_run and not (self._is_running and self.runs[-1].product == product):
            self.runs.append(Run(product, now_s, now_s))
        self._is_running = may_run

    # on paho's thread

    def _connected(self, client: paho.Client, *_: Any) -> None:  # noqa: ANN401 - paho's own
        self.connects.append(time.time())
        client.subscribe(f"{self._topic}/live", qos=0)

    def _arrived(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        # the flag is not handed on, because most libraries of controllers do not tell it
        self._queue.append(Message(message.payload.decode(), retained=False))


class Controller:
    """Owns the cycle's thread."""

    def __init__(self, lines: Sequence[PlcLine]) -> None:
        self.longest_cycle_s = 0.0
        self._lines = lines
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        for line in self._lines:
            line.start()
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join(20)
        for line in self._lines:
            line.stop()

    def _run(self) -> None:
        before_s = time.monotonic()
        while not self._is_over.wait(CYCLE_S):
            now_s = time.monotonic()
            self.longest_cycle_s = max(self.longest_cycle_s, now_s - before_s)
            before_s = now_s
            for line in self._lines:
                line.scan()
