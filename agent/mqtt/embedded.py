"""A broker for trials and the demo: `python -m agent.mqtt.embedded PORT`, on loopback, open to all, MQTT 3.1.1 only.

It says `listening on HOST:PORT` on stdout once it does, keeps nothing on disk, and ends on SIGTERM, SIGINT, or when the
process that started it is gone.
"""

import asyncio
import logging
import os
import signal
import sys
from typing import Final

from amqtt.broker import Broker
from amqtt.errors import BrokerError

from agent.messages.errors import EXIT_MISTAKE, EXIT_NOT_STARTED, EXIT_OK

HOST: Final = "127.0.0.1"
_PARENT_CHECK_S: Final = 0.5


def main(arguments: list[str]) -> int:
    """Serve until stopped; return an exit code. PORT 0 takes a free one."""
    if len(arguments) != 1 or not arguments[0].isdecimal():
        sys.stderr.write("usage: python -m agent.mqtt.embedded PORT\n")
        return EXIT_MISTAKE
    logging.basicConfig(
        stream=sys.stderr, level=logging.ERROR, format="level=%(levelname)s logger=%(name)s %(message)s"
    )
    # amqtt logs a traceback where one of our lines says it
    logging.getLogger("amqtt").setLevel(logging.CRITICAL)
    return asyncio.run(_serve(int(arguments[0]), os.getppid()))


async def _serve(port: int, parent: int) -> int:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    broker = Broker(_configuration(port))
    try:
        await broker.start()
    except BrokerError as error:
        sys.stderr.write(f"the embedded broker cannot start on {HOST}:{port}: {error.__cause__ or error}\n")
        return EXIT_NOT_STARTED
    sys.stdout.write(f"listening on {HOST}:{_port_of(broker, port)}\n")
    sys.stdout.flush()
    while not stopped.is_set() and os.getppid() == parent:
        await _wait(stopped, _PARENT_CHECK_S)
    await broker.shutdown()
    return EXIT_OK


async def _wait(stopped: asyncio.Event, timeout_s: float) -> None:
    try:
        await asyncio.wait_for(stopped.wait(), timeout_s)
    except asyncio.TimeoutError:
        return


def _configuration(port: int) -> dict[str, object]:
    return {
        "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{port}", "max_connections": 100}},
        # named, because the default ones log each packet and publish $SYS topics
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }


def _port_of(broker: Broker, asked: int) -> int:
    for server in broker._servers.values():  # noqa: SLF001 - amqtt offers no way to learn a port that the system chose
        return int(server.instance.sockets[0].getsockname()[1])
    return asked


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
