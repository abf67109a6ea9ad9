"""The inbox: in order, from any thread, and never longer than what one turn has read."""

import os
import threading

from agent.processes.loop import Loop


def fill(loop: Loop, count: int) -> None:
    for number in range(count):
        loop.put(number)


def test_a_turn_handles_all_that_its_reads_have_brought() -> None:
    loop = Loop()
    reader, writer = os.pipe()
    loop.register(reader, read=lambda: fill(loop, int(os.read(reader, 4))))
    seen: list[object] = []
    for count in (1, 5000, 300):
        os.write(writer, b"%04d" % count)
        seen.clear()
        loop.run_once(1.0, seen.append)
        assert seen == list(range(count)), "a flood would grow the inbox turn by turn otherwise"
    loop.unregister(reader)
    loop.close()
    for fd in (reader, writer):
        os.close(fd)


def test_other_threads_wake_it_and_keep_their_order() -> None:
    loop = Loop()
    seen: list[object] = []
    thread = threading.Thread(target=fill, args=(loop, 1000))
    thread.start()
    while len(seen) < 1000:
        loop.run_once(10.0, seen.append)
    thread.join()
    assert seen == list(range(1000))
    loop.close()
