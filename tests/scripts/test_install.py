"""scripts/install and scripts/uninstall on this machine: a dry run writes nothing; a bare system needs one command."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COPY_ON_WRITE = """
set -euo pipefail
folder=$1; shift
mount -t tmpfs tmpfs "$folder"
mkdir "$folder/written" "$folder/work" "$folder/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/written,workdir=$folder/work" "$folder/root"
for each in /proc /dev /sys; do mount --rbind "$each" "$folder/root$each"; done
set +e
chroot "$folder/root" "$@" >"$folder/out" 2>"$folder/err"
rc=$?
cat "$folder/out"; cat "$folder/err" >&2
cd "$folder/written" && find . -mindepth 1 ! -type d | sed 's|^\\.|written: |' >&2
exit "$rc"
"""
"""Runs a command on a view of the whole file system that keeps what is written to itself, and names it."""


class Watched:
    """A file system of its own to run the scripts on, with a systemd that only answers."""

    def __init__(self, folder: Path) -> None:
        self._programs = folder / "bin"
        self._layer = folder / "layer"
        self.calls = folder / "calls"
        for one in (self._programs, self._layer):
            one.mkdir()
        self.program("systemctl", "[ $1 != is-active ] && echo 'systemd 252 (252)'")

    def program(self, name: str, body: str) -> None:
        """Put a program before those of the system."""
        path = self._programs / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def make_bare(self) -> None:
        """Hide Python, and the libraries that a bare system lacks."""
        for folder in ("/usr/sbin", "/usr/bin", "/sbin", "/bin"):
            for path in Path(folder).iterdir():
                if not path.name.startswith("python") and not (self._programs / path.name).exists():
                    (self._programs / path.name).symlink_to(path)
        self.program("ldconfig", "exit 0")
        self.program("apt-get", f'echo "$@" >>{self.calls}; exit 100')

    def run(self, script: str, *arguments: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        """Run a script there; return its answer, and the files that it wrote."""
        has_all = (self._programs / "bash").exists()
        path = str(self._programs) if has_all else f"{self._programs}:/usr/sbin:/usr/bin:/sbin:/bin"
        unshare = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
        answer = subprocess.run(
            [*unshare, "bash", "-c", COPY_ON_WRITE, "bash", self._layer, ROOT / "scripts" / script, *arguments],
            env={"PATH": path, "HOME": "/root", "LANG": "C.UTF-8"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        lines = answer.stderr.splitlines()
        return answer, [line.removeprefix("written: ") for line in lines if line.startswith("written: ")]


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    probe = tmp_path / "probe"
    probe.mkdir()
    made = Watched(tmp_path)
    said = subprocess.run(
        ["unshare", "--mount", "bash", "-c", COPY_ON_WRITE, "bash", probe, "sh", "-c", "echo x >/seen"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if said.returncode != 0 or shutil.which("unshare") is None:
        pytest.skip(f"needs an overlay of the file system: {said.stderr[-200:]}")
    assert said.stderr.splitlines() == ["written: /seen"], "the view names what is written"
    return made


@pytest.mark.parametrize(
    ("script", "arguments", "shown"),
    [
        ("install", ["--dry-run"], "pip install"),
        ("install", ["--dry-run", "--extras", "onnxruntime", "--no-start"], "lock/onnxruntime.txt"),
        ("install", ["--dry-run", "--devices"], "50-devices.conf"),
        ("uninstall", ["--dry-run"], "/opt/changeover"),
        ("uninstall", ["--dry-run", "--purge"], "/var/lib/changeover"),
    ],
)
def test_a_dry_run_writes_nothing_anywhere(watched: Watched, script: str, arguments: list[str], shown: str) -> None:
    watched.program("apt-get", f'echo "$@" >>{watched.calls}')
    answer, written = watched.run(script, *arguments)
    assert answer.returncode == 0, answer.stderr
    assert shown in answer.stdout
    assert written == []


def test_a_dry_run_on_a_bare_system_names_what_it_would_fetch_and_fetches_nothing(watched: Watched) -> None:
    watched.make_bare()
    answer, written = watched.run("install", "--dry-run")
    assert answer.returncode == 0, answer.stderr
    wanted = "would run: apt-get install --no-install-recommends libgl1 libglib2.0-0 libxcb1 python3 python3-venv"
    assert wanted in answer.stdout.splitlines()
    assert "would run: python3 -I -m venv /opt/changeover/versions/" in answer.stdout
    assert written == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_bare_system_has_python_and_its_venv_fetched_in_one_go(watched: Watched) -> None:
    watched.make_bare()
    answer, written = watched.run("install")
    assert answer.returncode == 1
    asked = [one for one in written if one == str(watched.calls)]
    assert asked, "apt-get was asked"
    assert "apt-get install libgl1 libglib2.0-0 libxcb1 python3 python3-venv" in answer.stderr
    assert [one for one in written if not one.startswith(("/opt/changeover/.lock", "/tmp/"))] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_without_a_network_it_names_all_that_is_missing_at_once(watched: Watched, tmp_path: Path) -> None:
    watched.make_bare()
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "changeover-0.9-py3-none-any.whl").touch()
    answer, written = watched.run("install", "--wheels", str(wheels))
    assert answer.returncode == 1
    last = [line for line in answer.stderr.splitlines() if not line.startswith("written: ")][-1]
    assert "needs the system packages libgl1 libglib2.0-0 libxcb1 python3 python3-venv" in last
    assert not [one for one in written if str(watched.calls) in one]


OF_A_DEVICE = ("/etc/changeover/changeover.toml", "/var/lib/changeover/choices.json")
ON_A_DEVICE = """#!/bin/bash
mkdir -p /etc/changeover /var/lib/changeover /opt/changeover/versions/1 /usr/lib/changeover/package
touch /etc/changeover/changeover.toml /var/lib/changeover/choices.json
{here}
export PATH="{programs}:$PATH"
{script}
rc=$?
ls /etc/changeover/changeover.toml /var/lib/changeover/choices.json
exit $rc
"""
"""A device with a configuration and data, and what is left of them when a script has run."""


def on_a_device(watched: Watched, folder: Path, *, here: str, script: str) -> "subprocess.CompletedProcess[str]":
    device = folder / "device"
    device.write_text(ON_A_DEVICE.format(here=here, script=script, programs=folder / "bin"))
    device.chmod(0o755)
    return watched.run(str(device))[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_purge_of_the_removed_package_leaves_what_the_installer_s_version_needs(
    watched: Watched, tmp_path: Path
) -> None:
    watched.program("deb-systemd-helper", f'echo "$@" >>{watched.calls}; echo "helper: $@" >&2')
    watched.program("userdel", 'echo "userdel: $@" >&2')
    purge = f"{ROOT}/scripts/lib/deb/postrm purge"
    installed = "rm -r /usr/lib/changeover; ln -s versions/1 /opt/changeover/current"
    answer = on_a_device(watched, tmp_path, here=installed, script=purge)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split() == list(OF_A_DEVICE)
    assert "scripts/install put a version here" in answer.stderr
    assert "helper: purge" not in answer.stderr, "that would disable the service"
    assert "userdel: " not in answer.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_purge_of_the_package_ends_well_although_its_account_is_in_use(watched: Watched, tmp_path: Path) -> None:
    watched.program("deb-systemd-helper", 'echo "helper: $@" >&2')
    watched.program("getent", "exit 0")
    for name in ("userdel", "groupdel"):
        watched.program(name, f"echo '{name}: in use' >&2; exit 8")
    removed = "rm -r /usr/lib/changeover /opt/changeover"
    answer = on_a_device(watched, tmp_path, here=removed, script=f"{ROOT}/scripts/lib/deb/postrm purge")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split() == []
    assert "helper: purge changeover.service" in answer.stderr
    assert "the account changeover stays" in answer.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("arguments", ["", "--purge"])
def test_the_uninstaller_leaves_a_package_alone(watched: Watched, tmp_path: Path, arguments: str) -> None:
    script = f"{ROOT}/scripts/uninstall {arguments}"
    answer = on_a_device(watched, tmp_path, here="rm -r /opt/changeover", script=script)
    assert answer.returncode == 1, answer.stderr
    assert answer.stdout.split() == list(OF_A_DEVICE)
    assert "apt-get remove changeover" in answer.stderr
