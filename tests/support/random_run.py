"""A plant on a bad day: commands, kills, frozen processes and broker restarts, all from one seed."""

import heapq
import json
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count

import psutil

from agent.mqtt.blocking_client import BlockingClient, BlockingClientError
from support.brokers import Mosquitto
from support.running_agent import BASE, RunningAgent
from support.witness import Sent, Witness

_PRODUCTS = {"line-1": ("bottle-500", "17", "crate"), "line-2": ("open", "shut")}
_ENDS: frozenset[tuple[str, str | None]] = frozenset(
    {("done", None), ("noop", None), ("noop", "overridden")}
    | {("failed", reason) for reason in ("superseded", "worker_lost", "timeout")}
)
_PATIENCE_S = 4.0
_SETTLE_S = 150.0
_OLD = "2020-01-01T00:00:00Z"


class RandomRun:
    """`run` plays for a while, `settle` lets everything heal. One thread; `heard` holds nothing but the witness."""

    def __init__(  # noqa: PLR0913, PLR0917 - the whole plant
        self,
        agent: RunningAgent,
        broker: Mosquitto,
        plc: BlockingClient,
        ear: BlockingClient,
        witness: Witness,
        seed: int,
    ) -> None:
        self.faults: dict[str, int] = {}
        self._agent, self._broker, self._plc, self._ear = agent, broker, plc, ear
        self._witness = witness
        self._rng = random.Random(seed)
        self._numbers = count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._last: dict[str, str] = {}
        self._busy: set[str] = set()

    def run(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        self._later(0.0, self._command)
        self._later(2.0, self._fault)
        self._later(1.0, self._repeat)
        while time.monotonic() < end_s:
            self._turn()

    def settle(self) -> None:
        """Stop hurting, and wait until every command is answered and each line is ready for one last product."""
        self._due = [one for one in self._due if one[2] not in (self._command, self._fault)]
        limit_s = time.monotonic() + _SETTLE_S
        while self._due_but_repeats() or self._open():
            assert time.monotonic() < limit_s, f"still open: {self._open()}\n{self._agent.log()[-3000:]}"
            self._turn()
        for line, products in _PRODUCTS.items():
            self._send(line, "model/set", "auto")
            while self._witness.ready.get(line) not in products or self._open():
                assert time.monotonic() < limit_s, f"{line} is not ready\n{self._agent.log()[-3000:]}"
                if not self._open():
                    self._send(line, "product/set", self._rng.choice(products))
                self._turn()
        self._witness.finish()

    def _turn(self) -> None:
        while (arrival := self._ear.receive(0)) is not None:
            self._witness.take(arrival)
        arrival = self._ear.receive(0.02)
        if arrival is not None:
            self._witness.take(arrival)
        while self._due and self._due[0][0] <= time.monotonic():
            heapq.heappop(self._due)[2]()

    def _later(self, seconds: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._numbers), do))

    def _due_but_repeats(self) -> bool:
        return any(one[2] != self._repeat for one in self._due)

    # the PLC and its operator

    def _command(self) -> None:
        self._later(self._rng.choice([0.0, 0.2, 1.0, 2.0]), self._command)
        line = self._rng.choice(list(_PRODUCTS))
        match self._rng.randrange(20):
            case 0:
                self._send(line, "product/set", "mystery", frozenset({("rejected", "unknown_product")}))
            case 1:
                self._send(line, "product/set", "17", frozenset({("rejected", "expired")}), at=_OLD, ttl_s=1)
            case 2:
                self._send(line, "model/set", self._rng.choice(["alpha", "beta"]))
            case 3 | 4:
                self._send(line, "model/set", "auto")
            case 5:
                self._send(line, "cmd/rollback", line, _ENDS | {("rejected", "nothing_to_roll_back")})
            case 6 if self._witness.sent:
                self._again(self._rng.choice(list(self._witness.sent)))
            case _:
                self._send(line, "product/set", self._rng.choice(_PRODUCTS[line]))

    def _send(
        self,
        line: str,
        kind: str,
        value: str,
        may_end: frozenset[tuple[str, str | None]] = _ENDS,
        **more: object,
    ) -> None:
        number = next(self._numbers)
        id_ = f"c{number}"
        name = "line" if kind.startswith("cmd") else "value"
        topic = f"{BASE}/{kind}" if kind.startswith("cmd") else f"{BASE}/line/{line}/{kind}"
        payload = json.dumps({name: value, "id": id_, **more})
        self._witness.sent[id_] = Sent(line, number, topic, payload, may_end, time.monotonic())
        self._last[line] = id_
        self._publish(topic, payload)

    def _again(self, id_: str) -> None:
        """Repeat what was answered or accepted; what may not have arrived would be a new command."""
        one = self._witness.sent[id_]
        if one.finals or one.accepted:
            self._publish(one.topic, one.payload)

    def _repeat(self) -> None:
        """Ask again for answers that are missing; a PLC repeats its newest command until it is answered."""
        self._later(1.0, self._repeat)
        for id_ in self._open():
            one = self._witness.sent[id_]
            if time.monotonic() - one.sent_s > _PATIENCE_S:
                one.sent_s = time.monotonic()
                self._publish(one.topic, one.payload)

    def _open(self) -> list[str]:
        newest = set(self._last.values())
        return [id_ for id_, one in self._witness.sent.items() if not one.finals and (one.accepted or id_ in newest)]

    def _publish(self, topic: str, payload: str) -> None:
        try:
            self._plc.publish(topic, payload, qos=0)
        except BlockingClientError:
            """No broker, no command: it is repeated."""

    # what goes wrong

    def _fault(self) -> None:
        self._later(self._rng.uniform(0.5, 6.0), self._fault)
        faults: list[tuple[str, Callable[[], object]]] = [
            ("worker killed", lambda: self._child("inference", signal.SIGKILL)),
            ("worker killed", lambda: self._child("inference", signal.SIGKILL)),
            ("worker frozen", lambda: self._freeze("inference")),
            ("camera killed", lambda: self._child("capture", signal.SIGKILL)),
            ("camera frozen", lambda: self._freeze("capture")),
            ("agent killed", self._kill_agent),
            ("broker restarted", lambda: self._restart_broker(freeze=False)),
            ("broker frozen", self._freeze_broker),
            ("broker frozen, then restarted", lambda: self._restart_broker(freeze=True)),
        ]
        name, do = self._rng.choice(faults)
        part = name.split()[0]
        if part in self._busy or ({"agent", "broker"} & self._busy and part != "worker"):
            return
        self.faults[name] = self.faults.get(name, 0) + 1
        do()

    def _child(self, module: str, number: signal.Signals) -> psutil.Process | None:
        try:
            child = self._agent.child(module, self._rng.randrange(3) if module == "capture" else 0)
            child.send_signal(number)
        except (IndexError, psutil.NoSuchProcess):
            return None
        return child

    def _freeze(self, module: str) -> None:
        child = self._child(module, signal.SIGSTOP)
        if child is not None:
            self._later(self._rng.uniform(0.2, 5.0), lambda: self._thaw(child))

    def _thaw(self, child: psutil.Process) -> None:
        """Have a frozen process run again; one that was killed meanwhile is gone."""
        with suppress(psutil.NoSuchProcess):
            child.send_signal(signal.SIGCONT)

    def _kill_agent(self) -> None:
        self._agent.kill()
        self._hurt("agent", self._rng.choice([0.0, 0.5, 3.0]), self._agent.start)

    def _freeze_broker(self) -> None:
        self._broker.freeze()
        self._hurt("broker", self._rng.uniform(0.2, 4.0), self._broker.thaw)

    def _restart_broker(self, *, freeze: bool) -> None:
        if freeze:
            self._broker.freeze()
            self._hurt("broker", self._rng.uniform(0.5, 3.0), self._kill_broker)
        else:
            self._kill_broker()

    def _kill_broker(self) -> None:
        self._broker.kill()
        quiet_s = time.monotonic() + 0.2
        while time.monotonic() < quiet_s:
            arrival = self._ear.receive(0.05)
            if arrival is not None:
                self._witness.take(arrival)
        self._witness.forget()
        self._hurt("broker", self._rng.choice([0.0, 1.0, 3.0]), self._broker.start)

    def _hurt(self, part: str, seconds: float, heal: Callable[[], None]) -> None:
        self._busy.add(part)

        def healed() -> None:
            self._busy.discard(part)
            heal()

        self._later(seconds, healed)
