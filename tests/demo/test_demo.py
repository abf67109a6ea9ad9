"""The demo as a user starts it, in a network of its own: nothing can leave it, and nothing should try."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from agent.bench.plant.children import runs
from agent.demo import assets

PEOPLE = {"1080": 4, "720": 2}
_ROUNDS_S = (24, 60, 180)
"""A machine under load needs longer until it has seen everything."""
_DEADLINE_S = 400
_OF_A_SLOW_MACHINE = ("only ", "the unknown product was not refused")
"""Complaints that load alone can cause."""
_INSIDE = """
set -eu
printf 'nameserver 192.0.2.53\n' > "$RESOLVER"
mount --bind "$RESOLVER" /etc/resolv.conf
echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6
ip link set lo up
ip link add way-out type veth peer name nowhere
ip link set nowhere arp off up
ip address add 192.0.2.1/24 dev way-out
ip link set way-out arp off up
ip route add default dev way-out
status=0
"$@" || status=$?
echo "sent outside: $(awk '$1 == "way-out:" {print $11}' /proc/net/dev)"
exit $status
"""


def _may_make_networks() -> bool:
    command = shutil.which("unshare")
    return command is not None and subprocess.run([command, "--net", "true"], check=False).returncode == 0


@pytest.mark.timeout(1200)
@pytest.mark.skipif(not _may_make_networks(), reason="needs the right to make a network namespace (root)")
def test_the_whole_demo_runs_without_a_network_and_nothing_tries_to_leave(tmp_path: Path) -> None:
    assets.fetch()
    for seconds in _ROUNDS_S:
        done = _run(tmp_path, seconds)
        report, way_out = done.stdout.splitlines()[-2:]
        assert way_out == "sent outside: 0", done.stderr[-3000:]
        seen = json.loads(report)
        _assert_nothing_wrong(seen, done)
        if seen["refused"] and seen["people"].keys() == PEOPLE.keys() and len(seen["switches"]) > 1:
            assert seen["people"] == PEOPLE
            return
    pytest.fail(f"not everything was seen within {_ROUNDS_S[-1]} s: {seen}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_demo_that_is_ended_from_outside_leaves_nobody_behind(number: signal.Signals, tmp_path: Path) -> None:
    assets.fetch()
    command = [sys.executable, "-m", "agent", "demo", "--no-view"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment) as demo:
        deadline_s = time.monotonic() + 120
        started: list[psutil.Process] = []
        while not any(runs(one, "inference") for one in started):
            assert time.monotonic() < deadline_s
            time.sleep(0.2)
            started = psutil.Process(demo.pid).children(recursive=True)
        demo.send_signal(number)
        demo.wait(120)
    assert psutil.wait_procs(started, 120)[1] == []
    if number == signal.SIGTERM:
        assert list(tmp_path.iterdir()) == []


def _run(folder: Path, seconds: int) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "agent", "demo", "--seconds", str(seconds), "--json", "--no-view"]
    return subprocess.run(
        ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", _INSIDE, "sh", *command],
        capture_output=True,
        text=True,
        timeout=_DEADLINE_S,
        check=False,
        env={**os.environ, "RESOLVER": str(folder / "resolv.conf")},
    )


def _assert_nothing_wrong(report: dict[str, Any], done: "subprocess.CompletedProcess[str]") -> None:
    serious = [one for one in report["complaints"] if not one.startswith(_OF_A_SLOW_MACHINE) and "{}" not in one]
    assert not serious, (report["complaints"], done.stderr[-3000:])
    assert done.returncode == (1 if report["complaints"] else 0)
    assert report["frames"] > 0
    assert report["wrong_model"] == 0
    assert {one["result"] for one in report["switches"]} <= {"switched", "rejected"}
