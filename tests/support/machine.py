"""A small Debian in a container of its own, booted by its own systemd; its network is the host's loopback."""

import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
_CGROUPS = Path("/sys/fs/cgroup")
DEADLINE_S = 120.0
UNIT = "changeover.service"
SOURCE = "/mnt/source"
WHEELS = "/mnt/wheels"
PACKAGES = "/mnt/packages"
_NUMBERS = itertools.count(os.getpid())
_FETCHES = ("PIP_", "http_proxy", "https_proxy", "no_proxy")
"""Variables by which this machine's own clients reach their package sources."""
Answer = subprocess.CompletedProcess[str]


class Machine:
    """One container, from `boot` to `stop`. Its files lie below `root`, and are gone after `stop`."""

    def __init__(self, prepared: Path, folder: Path, tree: str = "tree") -> None:
        self.root = folder / "root"
        self._prepared = prepared
        self._console = folder / "console"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._init = 0
        subprocess.run(["cp", "-a", "--reflink=auto", str(prepared / tree), str(self.root)], check=True)

    def boot(self) -> None:
        """Return when systemd has started what belongs to the start."""
        command = [
            *("systemd-nspawn", "--quiet", "--directory", str(self.root), "--boot", "--register=no", "--keep-unit"),
            *("--console=pipe", f"--bind-ro={ROOT}:{SOURCE}", f"--bind-ro={self._prepared / 'wheels'}:{WHEELS}"),
            f"--bind-ro={self._prepared / 'packages'}:{PACKAGES}",
        ]
        if (_CGROUPS / "cgroup.controllers").exists():
            command = [*_in_cgroup_of_its_own(), *command]
        # the container's own filter of calls lies beneath the unit's, and refuses what a device's kernel allows
        environment = {**os.environ, "SYSTEMD_SECCOMP": "0"}
        with self._console.open("wb") as log:
            self._nspawn = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        self.until(self._find_init, "a systemd of its own")
        self.until(lambda: "running" in self.run("systemctl", "is-system-running", check=False).stdout, "booted")

    def stop(self) -> None:
        """Take its power away."""
        if self._nspawn is not None:
            for process in psutil.Process(self._nspawn.pid).children(recursive=True):
                process.kill()
            self._nspawn.kill()
            self._nspawn.wait(DEADLINE_S)
        shutil.rmtree(self.root)

    def run(self, *command: str, check: bool = True, fetches: bool = False) -> Answer:
        """Run a command in it, as root; with `fetches` it may use this machine's way to package sources."""
        enter = ["nsenter", "--target", str(self._init), "--all", "--", "/usr/bin/env", "--ignore-environment"]
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        answer = subprocess.run(
            [*enter, path, "LANG=C.UTF-8", "HOME=/root", *(self._way_out() if fetches else []), *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert not check or answer.returncode == 0, f"{' '.join(command)}\n{answer.stdout}\n{answer.stderr}"
        return answer

    def _way_out(self) -> list[str]:
        """Return the variables for package clients; a certificate that they name is copied into the machine."""
        names = {name: value for name, value in os.environ.items() if name.startswith(_FETCHES)}
        certificates = names.get("PIP_CERT")
        if certificates is not None:
            shutil.copy(certificates, self.root / "etc" / "fetch.pem")
            names["PIP_CERT"] = "/etc/fetch.pem"
        return [f"{name}={value}" for name, value in names.items() if name != "PIP_FIND_LINKS"]

    def install(self, version: str, *options: str, check: bool = True) -> Answer:
        """Run scripts/install with the wheels of `version`."""
        return self.run(f"{SOURCE}/scripts/install", "--wheels", f"{WHEELS}/{version}", *options, check=check)

    def shows(self, name: str, unit: str = UNIT) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", f"--property={name}", "--value", unit).stdout.strip()

    def journal(self) -> str:
        """Return all that the unit and systemd said of it."""
        return self.run("journalctl", f"--unit={UNIT}", "--no-pager", "--output=cat").stdout

    def main_process(self) -> psutil.Process:
        """Return the service's main process, as the host sees it."""
        inside = int(self.shows("MainPID"))
        for process in psutil.Process(self._init).children(recursive=True):
            try:
                status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
            except OSError:
                continue
            if f"NSpid:\t{process.pid}\t{inside}\n" in status:
                return process
        raise AssertionError(f"no process {inside}\n{self.journal()[-3000:]}")

    def until(self, is_done: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> float:
        """Wait for something to be true; return how many seconds that took."""
        begun_s = time.monotonic()
        while not is_done():
            assert time.monotonic() - begun_s < deadline_s, f"not {what} within {deadline_s} s\n{self._said()}"
            time.sleep(0.05)
        return time.monotonic() - begun_s

    def files(self) -> set[str]:
        """Return every file and folder but those that a running system writes anyway."""
        running = ("dev", "proc", "run", "sys", "tmp", "mnt", "var/log", "var/tmp", "var/cache", "var/lib/systemd")
        leave_out = [word for name in running for word in ("-path", f"/{name}", "-prune", "-o")]
        return set(self.run("find", "/", *leave_out, "-print").stdout.splitlines())

    def _find_init(self) -> bool:
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, self._console.read_text(errors="replace")
        children = psutil.Process(self._nspawn.pid).children()
        self._init = children[0].pid if children else 0
        return bool(self._init) and self.run("test", "-S", "/run/systemd/private", check=False).returncode == 0

    def _said(self) -> str:
        return self._console.read_text(errors="replace")[-2000:] + (self.journal()[-4000:] if self._init else "")


def _in_cgroup_of_its_own() -> list[str]:
    """Return what runs a command in a new cgroup (version 2), because containers divide the one that they begin in."""
    folder = _CGROUPS / f"machine-{next(_NUMBERS)}"
    folder.mkdir()
    return ["sh", "-c", 'echo 0 > "$0"; exec "$@"', str(folder / "cgroup.procs")]
