"""The demo as a user starts it, in a network of its own: nothing can leave it, and nothing should try."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.demo import material

_SECONDS = 24
_DEADLINE_S = 280
_OF_A_SLOW_MACHINE = ("frames_lost", "only ")
"""Complaints that a machine under load may cause; whether a swap costs frames is a benchmark's question."""
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


@pytest.mark.skipif(not _may_make_networks(), reason="needs the right to make a network namespace (root)")
def test_the_whole_demo_runs_without_a_network_and_nothing_tries_to_leave(tmp_path: Path) -> None:
    material.fetch()
    command = [sys.executable, "-m", "agent", "demo", "--seconds", str(_SECONDS), "--json", "--no-view"]
    done = subprocess.run(
        ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", _INSIDE, "sh", *command],
        capture_output=True,
        text=True,
        timeout=_DEADLINE_S,
        check=False,
        env={**os.environ, "RESOLVER": str(tmp_path / "resolv.conf")},
    )
    report, way_out = done.stdout.splitlines()[-2:]
    assert way_out == "sent outside: 0", done.stderr[-3000:]
    _assert_right(json.loads(report), done)


def _assert_right(report: dict[str, Any], done: "subprocess.CompletedProcess[str]") -> None:
    serious = [one for one in report["complaints"] if not one.startswith(_OF_A_SLOW_MACHINE)]
    assert not serious, (report["complaints"], done.stderr[-3000:])
    assert done.returncode == (1 if report["complaints"] else 0)
    assert report["frames"] > 0
    assert report["detections"] > 0
    assert report["wrong_model"] == 0
    assert report["refused"] >= 1
    assert report["people"] == {"1080": 4, "720": 2}
    assert {one["result"] for one in report["switches"]} <= {"switched", "rejected"}
