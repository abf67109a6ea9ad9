"""The unit as a file: right, closed as far as it can be, and with the drop-in of every kind of box."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "systemd" / "changeover.service"
STICK_UNIT = ROOT / "systemd" / "changeover-stick@.service"
MOST_STICK_EXPOSURE = 30
"""In tenths: it runs as root, with three rights and no network."""
MOST_EXPOSURE = 19
"""In tenths, as systemd-analyze counts; 9.6 is a unit without any hardening."""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (the package systemd)"
)


def analyze(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = ["systemd-analyze", "--no-pager", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def drop_in(tmp_path: Path, kinds: str) -> str:
    """Return what the installer would write for a kernel that knows these classes of devices."""
    classes = tmp_path / "devices"
    classes.write_text(f"Character devices:\n{kinds}\nBlock devices:\n  8 sd\n")
    (tmp_path / "dev").mkdir(exist_ok=True)
    script = f". {ROOT}/scripts/lib/devices.sh; has_argus() {{ false; }}; device_drop_in"
    environ = {"PATH": "/usr/bin:/bin", "DEV": str(tmp_path / "dev"), "DEVICES": str(classes)}
    return subprocess.run(["bash", "-euc", script], env=environ, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Give the unit with a program that is there, as it is once installed."""
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/changeover/current/bin/changeover", "/bin/true"))
    return copy


@needs_systemd
def test_systemd_finds_nothing_to_say(installed: Path) -> None:
    said = analyze("verify", str(installed))
    assert (said.returncode, said.stdout + said.stderr) == (0, "")


@needs_systemd
def test_it_is_closed_as_far_as_cameras_and_a_gpu_let_it(installed: Path) -> None:
    said = analyze("security", "--offline=yes", f"--threshold={MOST_EXPOSURE}", str(installed))
    assert said.returncode == 0, said.stdout[-3000:] + said.stderr


@needs_systemd
def test_the_unit_of_a_stick_is_right_and_closed(tmp_path: Path) -> None:
    copy = tmp_path / STICK_UNIT.name
    copy.write_text(STICK_UNIT.read_text().replace("/opt/changeover/current/bin/changeover", "/bin/true"))
    said = analyze("verify", str(copy))
    assert (said.returncode, said.stdout + said.stderr) == (0, "")
    said = analyze("security", "--offline=yes", f"--threshold={MOST_STICK_EXPOSURE}", str(copy))
    assert said.returncode == 0, said.stdout[-3000:] + said.stderr


def test_gpus_of_this_box_are_allowed_and_nothing_else(tmp_path: Path) -> None:
    kinds = "  1 mem\n 81 video4linux\n 89 i2c\n195 nvidia\n226 drm\n234 nvidia-uvm\n 10 misc\n 13 input\n"
    assert drop_in(tmp_path, kinds).splitlines()[1:] == [
        "[Service]",
        "DeviceAllow=char-drm rw",
        "DeviceAllow=char-nvidia rw",
        "DeviceAllow=char-nvidia-uvm rw",
        "# The card's nodes, also on a box without a screen.",
        "DeviceAllow=char-nvidia rwm",
        "DeviceAllow=char-nvidia-uvm rwm",
        "ExecStartPre=+-/usr/bin/nvidia-modprobe -u -c 0",
        "[Unit]",
        "Wants=nvidia-persistenced.service",
        "After=nvidia-persistenced.service systemd-modules-load.service",
    ]
    assert "DeviceAllow=" not in drop_in(tmp_path, "  1 mem\n 81 video4linux\n")


def test_what_cuda_and_the_cameras_need_stays_open() -> None:
    lines = UNIT.read_text().splitlines()
    assert "DeviceAllow=char-video4linux rw" in lines
    # PrivateDevices= breaks CUDA, ProcSubset=pid hides meminfo, PrivateUsers= device groups, and runtimes compile.
    closed = ("PrivateDevices=", "ProcSubset=", "PrivateUsers=", "MemoryDenyWriteExecute=", "PrivateNetwork=")
    assert [line for line in lines if line.startswith(closed)] == []


def test_a_reload_checks_before_it_is_sent() -> None:
    steps = [line for line in UNIT.read_text().splitlines() if line.startswith("ExecReload=")]
    assert ["changeover check --config /etc/changeover/changeover.toml" in step for step in steps] == [True, False]
    assert "kill -HUP $MAINPID" in steps[1]
    assert not any(step.startswith("ExecReload=-") for step in steps), "a failed check ends the reload"


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ("install", ["--nonsense"], "unknown option --nonsense"),
        ("install", ["--wheels"], "--wheels needs a value"),
        ("install", ["--wheels", "/nonexistent"], "there is no folder"),
        ("install", ["--ready-within", "soon"], "number of seconds"),
        ("uninstall", ["--all"], "unknown option --all"),
    ],
)
def test_a_mistake_in_usage_is_2_and_does_nothing(script: str, arguments: list[str], words: str) -> None:
    command = [str(ROOT / "scripts" / script), *arguments]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert said.returncode == 2
    assert words in said.stderr
