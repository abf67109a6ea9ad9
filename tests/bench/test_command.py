"""`changeover bench` as a user calls it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil

from agent.bench.bench_command import machine
from agent.bench.plant.children import end, running


def changeover(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "agent", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)


def test_the_last_line_of_stdout_is_the_figures() -> None:
    answer = changeover("bench", "cache", "--quick", "--json")
    assert answer.returncode == 0, answer.stderr
    figures = json.loads(answer.stdout.splitlines()[-1])
    assert figures["benchmark"] == "cache"
    assert figures["quick"] is True
    assert set(figures["vs_lru"]) == {"announced", "unannounced", "preloaded"}
    assert set(figures["vs_belady"]) == {"announced", "unannounced"}
    assert figures["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert "bench: cache: campaigns-1" in answer.stderr


def test_an_unknown_benchmark_is_a_mistake_in_usage() -> None:
    answer = changeover("bench", "everything")
    assert answer.returncode == 2
    assert "cache" in answer.stderr


def test_a_machine_is_known_by_what_figures_depend_on() -> None:
    assert {"processor", "cores", "python", "versions"} <= machine().keys()


def test_a_child_that_will_not_end_is_ended_with_its_own_children(tmp_path: Path) -> None:
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid, flush=True)\ntime.sleep(600)"
    )
    log = tmp_path / "log"
    with running([sys.executable, "-c", code], log) as process:
        while not log.read_text().endswith("\n"):
            assert process.poll() is None
        grandchild = int(log.read_text())
        end(process, 1.0)
    assert process.returncode == -9
    assert not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE
