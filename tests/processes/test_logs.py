"""One line an event, for people and for the journal; no secrets, no floods."""

import io
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agent.processes.logs import FOLD_S, Formatter, Handler, is_journal

ROOT = Path(__file__).parents[2]


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Bench:
    """A logger of its own."""

    def __init__(self, *, for_journal: bool = False) -> None:
        self.clock = Clock()
        self.stream = io.StringIO()
        handler = Handler(self.stream, self.clock)
        handler.setFormatter(Formatter(for_journal=for_journal))
        self.logger = logging.getLogger("agent.test")
        self.logger.setLevel(logging.DEBUG)
        self.logger.propagate = False
        self.logger.handlers = [handler]

    def lines(self) -> list[str]:
        text = self.stream.getvalue()
        assert not text or text.endswith("\n")
        return text.splitlines()


def test_a_line_has_time_process_level_logger_and_event() -> None:
    bench = Bench()
    bench.logger.info("event=child_up child=%r pid=%d", "worker", 7)
    at, process, *rest = bench.lines()[0].split(" ")
    assert at.startswith("at=20")
    assert at.endswith("Z")
    assert process == f"process={os.getpid()}"
    assert rest == ["level=INFO", "logger=agent.test", "event=child_up", "child='worker'", "pid=7"]


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3), (logging.CRITICAL, 2)],
)
def test_the_journal_gets_a_priority_and_no_time(level: int, priority: int) -> None:
    bench = Bench(for_journal=True)
    bench.logger.log(level, "event=x")
    assert bench.lines()[0].startswith(f"<{priority}>process=")
    assert "at=" not in bench.lines()[0]


def test_free_text_of_libraries_becomes_an_event_too() -> None:
    bench = Bench()
    bench.logger.info("it's\nbroken")
    assert bench.lines()[0].endswith(r'''event=message text="it's\nbroken"''')


def test_an_exception_stays_on_one_line_with_its_error() -> None:
    bench = Bench()
    try:
        int("two\nlines")
    except ValueError:
        bench.logger.exception("event=failed")
    (line,) = bench.lines()
    assert "event=failed error=" in line
    assert "ValueError" in line
    assert "test_logs.py" in line


@pytest.mark.parametrize(
    "text",
    [
        "event=x detail='cannot open rtsp://admin:s3cret@10.0.0.5/stream'",
        "event=x detail='http://10.0.0.5/video?user=admin&pwd=s3cret'",
        "event=x detail='mqtt://box:pa/ss@s3cret@broker'",
        "event=x password=s3cret",
        "opening with Token: s3cret",
    ],
)
def test_no_secret_is_written(text: str) -> None:
    bench = Bench()
    bench.logger.warning(text)
    assert "s3cret" not in bench.lines()[0]


def test_control_characters_cannot_forge_a_line_or_paint_a_terminal() -> None:
    bench = Bench()
    bench.logger.info("event=x topic=%s", "a\n<0>event=forged\x1b[31m\x00")
    (line,) = bench.lines()
    assert line.endswith(r"topic=a\n<0>event=forged\x1b[31m\x00")


def test_a_repeated_warning_is_written_once_and_counted_after_a_minute() -> None:
    bench = Bench()
    for tenth in range(300):
        bench.clock.now_s = tenth / 10
        bench.logger.warning("event=child_lost child='worker' detail='no beat; starts again in %.2f s'", tenth / 7)
        bench.logger.warning("event=child_lost child='camera cam-2'")
        bench.logger.info("event=tick number=1")
    assert sum("child='worker'" in line for line in bench.lines()) == 1
    assert sum("camera cam-2" in line for line in bench.lines()) == 1
    assert sum("event=tick" in line for line in bench.lines()) == 300, "information is not folded"
    bench.clock.now_s = FOLD_S + 1
    bench.logger.info("event=other")
    told = [line for line in bench.lines() if "repeats=" in line]
    assert len(told) == 2
    assert told[0].endswith("repeats=299")
    assert "level=WARNING" in told[0]
    bench.logger.warning("event=child_lost child='worker' detail='no beat; starts again in 1.00 s'")
    assert sum("child='worker'" in line for line in bench.lines()) == 3


def test_what_is_folded_is_bounded() -> None:
    bench = Bench()
    for number in range(2000):
        bench.logger.warning("event=x number=%d", number)
        bench.logger.warning("event=x number=%d", number)
    assert len(bench.lines()) == 2000 + (2000 - 256), "all but the newest 256 were let go, each with its count"


def test_threads_write_whole_lines() -> None:
    bench = Bench()

    def write() -> None:
        for _ in range(100):
            bench.logger.info("event=x text=%r", "y" * 200)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(bench.lines()) == 400
    assert all(line.endswith("y'") for line in bench.lines())


def test_the_journal_is_known_by_device_and_inode(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w") as stream:
        status = os.fstat(stream.fileno())
        assert is_journal(stream, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        assert not is_journal(stream, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"})
        assert not is_journal(stream, {})
    assert not is_journal(io.StringIO(), {"JOURNAL_STREAM": "1:2"})


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("raise RuntimeError('odd')", "level=CRITICAL logger=agent event=crashed error='RuntimeError: odd'"),
        (
            "import threading; t = threading.Thread(target=lambda: 1 / 0, name='swapper'); t.start(); t.join()",
            "event=thread_crashed thread='swapper' error='ZeroDivisionError: division by zero'",
        ),
        ("import warnings; warnings.warn('old')", "logger=py.warnings event=message"),
    ],
)
def test_what_nobody_catches_is_one_line_too(code: str, expected: str) -> None:
    whole = f"from agent.processes.logs import set_up; set_up(); {code}"
    answer = subprocess.run(
        [sys.executable, "-c", whole], capture_output=True, text=True, check=False, timeout=60, cwd=ROOT
    )
    assert expected in answer.stderr
    assert len(answer.stderr.splitlines()) == 1
