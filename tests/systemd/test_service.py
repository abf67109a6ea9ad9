"""The installed service under kills, hangs and overload."""

import json
import signal
import time
from pathlib import Path

import psutil
import pytest
from support.machine import UNIT, Machine
from support.running_agent import RunningAgent

from agent.processes.walls import missing_walls


def _restarts(machine: Machine) -> int:
    return int(machine.shows("NRestarts"))


def test_it_is_active_and_ready_and_heard_on_a_broker_outside(running: Machine, plant: RunningAgent) -> None:
    assert running.shows("ActiveState") == "active"
    assert running.shows("User") == "changeover"
    mark = len(plant.heard)
    plant.until_inferred("cam-1", "alpha:n@1", mark)
    plant.until(lambda: plant.on("health", mark))
    health = json.loads(plant.on("health", mark)[0].payload)
    assert set(health["streams"]) == {"cam-1", "cam-2", "cam-3"}
    assert health["memory"]["worker_bytes"] > 0


def test_it_runs_as_a_user_without_rights_and_keeps_its_data(running: Machine) -> None:
    main = running.main_process()
    assert 0 not in main.uids()
    assert "CapBnd:\t0000000000000000" in running.run("cat", f"/proc/{running.shows('MainPID')}/status").stdout
    owner = running.run("stat", "--format=%U %a", "/var/lib/changeover", "/etc/changeover/credentials").stdout
    assert owner.split("\n")[:2] == ["changeover 700", "root 700"]


def test_the_doctor_finds_it_well_inside_its_own_sandbox(running: Machine, plant: RunningAgent) -> None:
    assert plant.config.exists()
    answer = running.run("changeover", "doctor", "--as-service", check=False)
    said = answer.stdout.splitlines()
    assert (answer.returncode, [line for line in said if line.startswith("fail")]) == (0, []), answer.stderr
    for words in ("can be written by changeover", "model alpha:n@1: detect (v8), loads in", "camera cam-1: video file"):
        assert [line for line in said if words in line], answer.stdout
    if not missing_walls():
        assert [line for line in said if "checkpoints: a .pt is opened behind limits, files, calls" in line], said
    assert "not tried beside it" in answer.stdout
    saved = running.root / "var/lib/changeover/doctor/cam-1.jpg"
    assert saved.stat().st_size > 0


def test_a_reload_keeps_the_process_and_takes_a_new_product(running: Machine, plant: RunningAgent) -> None:
    pid, right = running.shows("MainPID"), plant.config.read_text()
    plant.config.write_text(right.replace('17 = "beta"', '17 = "beta"\n"box-1" = "alpha"'))
    assert plant.config.read_text() != right
    try:
        running.run("systemctl", "reload", "changeover")
        plant.send("line/line-1/product/set", "box-1", retain=True)
        plant.until_said("line/line-1/ready", "box-1")
    finally:
        plant.config.write_text(right)
    assert running.shows("MainPID") == pid


def test_a_reload_of_a_mistake_fails_with_its_reason_and_changes_nothing(running: Machine, plant: RunningAgent) -> None:
    pid, right, mark = running.shows("MainPID"), plant.config.read_text(), len(plant.heard)
    plant.config.write_text(right.replace("fps = ", "fpss = ", 1))
    assert plant.config.read_text() != right
    try:
        assert running.run("systemctl", "reload", "changeover", check=False).returncode != 0
        assert "stream[0].fpss: found an unknown key, expected fps" in running.journal()
    finally:
        plant.config.write_text(right)
    running.run("systemctl", "reload", "changeover")  # with what systemd handed over as credentials
    assert (running.shows("MainPID"), running.shows("ActiveState")) == (pid, "active")
    assert plant.on("line/line-1/ready", mark) == []


def test_a_killed_main_process_is_back_and_ready_again(running: Machine, plant: RunningAgent) -> None:
    restarts, mark = _restarts(running), len(plant.heard)
    running.main_process().send_signal(signal.SIGKILL)
    plant.until_said("status", "offline", mark)
    begun = plant.until_said("status", "offline", mark).at_s
    ready = plant.until_said("line/line-1/ready", "bottle-500", mark)
    assert _restarts(running) == restarts + 1
    print(f"kill -9 to ready again: {ready.at_s - begun:.2f} s")  # noqa: T201 - a figure for the docs


def test_a_frozen_control_loop_is_restarted_by_the_watchdog(running: Machine, plant: RunningAgent) -> None:
    restarts, mark = _restarts(running), len(plant.heard)
    running.main_process().send_signal(signal.SIGSTOP)
    plant.until_said("line/line-1/ready", "bottle-500", mark)
    assert _restarts(running) == restarts + 1
    assert "Watchdog timeout" in running.journal()


@pytest.mark.soak
def test_a_start_is_followed_by_detections(running: Machine, plant: RunningAgent) -> None:
    took_s = sorted(_start_s(running, plant) for _ in range(5))
    assert took_s[0] > 0
    print(f"start to the first detection: {[round(one, 2) for one in took_s]} s")  # noqa: T201 - figures for the docs


def _start_s(machine: Machine, plant: RunningAgent) -> float:
    """Start the stopped service; return how long its first detection took."""
    machine.run("systemctl", "stop", "changeover")
    mark, began_s = len(plant.heard), time.monotonic()
    machine.run("systemctl", "start", "--no-block", "changeover")

    def since() -> list[float]:
        """Return when detections came; what the broker still had of the time before is none."""
        arrived_s = [one.at_s for one in plant.on("stream/cam-1/detections", mark)]
        return [at_s for at_s in arrived_s if at_s > began_s]

    plant.until(since)
    return since()[0] - began_s


def test_what_the_kernel_would_kill_first_is_the_worker(running: Machine) -> None:
    main = running.main_process()
    scores = {_module(process): _oom_score(process) for process in [main, *main.children()]}
    assert scores["control"] < scores["agent.capture.camera_process"] < scores["agent.inference.process"]
    assert running.shows("OOMScoreAdjust") == "-500"  # which a container may not have
    assert running.shows("OOMPolicy") == "continue"


def test_a_wrong_configuration_fails_once_with_its_reason_in_the_journal(running: Machine, plant: RunningAgent) -> None:
    right = plant.config.read_text()
    plant.config.write_text(right.replace('default = "alpha"', 'default = "alpha"\nvariantt = "n"'))
    try:
        assert running.run("systemctl", "restart", "changeover", check=False).returncode != 0
        running.until(lambda: running.shows("ActiveState") == "failed", "failed")
        assert running.shows("ExecMainStatus") == "2"
        assert running.shows("NRestarts") == "0"
        assert "line.line-1.variantt: found an unknown key" in running.journal()
    finally:
        plant.config.write_text(right)
    running.run("systemctl", "reset-failed", UNIT)


def _module(process: psutil.Process) -> str:
    return next((word for word in process.cmdline() if word.startswith("agent.")), "control")


def _oom_score(process: psutil.Process) -> int:
    return int(Path(f"/proc/{process.pid}/oom_score_adj").read_text(encoding="ascii"))
