"""scripts/install installs what the lock names, from files whose sha256 it names, and nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.wheels import sha256, wheel

ROOT = Path(__file__).parents[2]
POISONED = ("msgspec", "cv2", "venv", "ensurepip", "pip", "logging", "runpy", "site", "sitecustomize", "usercustomize")


def change_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


class Carried:
    """A checkout with its lock, a folder of wheels for it, and a venv to install into."""

    def __init__(self, folder: Path, empty: Path) -> None:
        self.folder = folder
        self.wheels = folder / "wheels"
        self.lock = folder / "checkout" / "lock"
        for one in (self.wheels, self.lock, folder / "work", folder / "here"):
            one.mkdir(parents=True)
        self.dependency = wheel(self.wheels, "tinydep", "1.0")
        self.own = wheel(self.wheels, "changeover", "0.1.0", requires="Requires-Dist: tinydep\n")
        self.say_hash()
        (self.lock / "base.txt").write_text(f"tinydep==1.0 --hash=sha256:{sha256(self.dependency)}\n")
        (self.lock / "supply.txt").write_text("")
        # links are enough, because pip replaces files and writes into none
        shutil.copytree(empty, folder / "venv", symlinks=True, copy_function=os.link)

    def say_hash(self) -> None:
        self.own.with_name(f"{self.own.name}.sha256").write_text(f"{sha256(self.own)}  {self.own.name}\n")

    def install(self, told: str = "", extras: str = "") -> "subprocess.CompletedProcess[str]":
        """Do what scripts/install does for its packages, from a folder where anybody could have put a module."""
        for name in POISONED:
            (self.folder / "here" / f"{name}.py").write_text(f"open({str(self.folder / 'ran')!r}, 'w').write('x')\n")
        script = f"""
            set -euo pipefail
            HERE={self.folder}/checkout WORK={self.folder}/work LOG=$WORK/log WHEELS={self.wheels}
            SHA256={told!r} EXTRAS={extras!r}
            cd {ROOT}; . scripts/lib/setup.sh; . scripts/lib/service.sh; . scripts/lib/packages.sh
            cd {self.folder}/here
            needs_lock_of_extras
            install_packages_of {self.folder}/venv
        """
        answer = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=120)
        assert not (self.folder / "ran").exists(), "a module of the current folder ran"
        return answer

    def installed(self) -> set[str]:
        code = "from importlib.metadata import distributions; print(*(one.metadata['Name'] for one in distributions()))"
        said = subprocess.run(
            [self.folder / "venv/bin/python", "-I", "-c", code], capture_output=True, text=True, check=True
        )
        return {*said.stdout.split()} - {"pip", "setuptools"}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a venv with nothing but pip; it works where it is copied to, since it is started by its python alone."""
    folder = tmp_path_factory.mktemp("empty") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder


@pytest.fixture
def carried(tmp_path: Path, empty: Path) -> Carried:
    return Carried(tmp_path, empty)


def test_what_the_lock_names_is_installed_without_a_network(carried: Carried) -> None:
    answer = carried.install()
    assert answer.returncode == 0, answer.stderr
    assert carried.installed() == {"changeover", "tinydep"}


@pytest.mark.parametrize("which", ["dependency", "own"])
def test_a_wheel_with_one_byte_changed_is_refused(carried: Carried, which: str) -> None:
    change_a_byte(getattr(carried, which))
    answer = carried.install()
    assert answer.returncode == 1
    assert "DO NOT MATCH THE HASHES" in answer.stderr
    assert carried.installed() == set()


def test_a_folder_whose_own_hash_was_changed_too_is_refused_by_one_that_came_another_way(carried: Carried) -> None:
    told = sha256(carried.own)
    change_a_byte(carried.own)
    carried.say_hash()
    answer = carried.install(told)
    assert answer.returncode == 1
    assert "DO NOT MATCH THE HASHES" in answer.stderr
    assert carried.installed() == set()


def test_a_newer_version_that_lies_in_the_folder_is_left_there(carried: Carried) -> None:
    wheel(carried.wheels, "tinydep", "1.1")
    assert carried.install().returncode == 0
    version = next(carried.folder.glob("venv/lib/*/site-packages/tinydep-*.dist-info")).name
    assert version == "tinydep-1.0.dist-info"


def test_a_dependency_that_the_lock_does_not_name_is_not_installed(carried: Carried) -> None:
    wheel(carried.wheels, "sneaked", "1.0")
    carried.own = wheel(
        carried.wheels, "changeover", "0.1.0", requires="Requires-Dist: tinydep\nRequires-Dist: sneaked\n"
    )
    carried.say_hash()
    answer = carried.install()
    assert answer.returncode == 0, answer.stderr
    assert "sneaked" not in carried.installed()


def test_a_folder_without_the_hash_of_its_own_wheel_is_refused(carried: Carried) -> None:
    carried.own.with_name(f"{carried.own.name}.sha256").unlink()
    answer = carried.install()
    assert answer.returncode == 1
    assert "scripts/wheels" in answer.stderr


def test_an_extra_brings_what_its_own_lock_names(carried: Carried) -> None:
    more = wheel(carried.wheels, "moretiny", "2.0")
    (carried.lock / "nvidia.txt").write_text(
        f"tinydep==1.0 --hash=sha256:{sha256(carried.dependency)}\nmoretiny==2.0 --hash=sha256:{sha256(more)}\n"
    )
    assert carried.install(extras="nvidia").returncode == 0
    assert carried.installed() == {"changeover", "tinydep", "moretiny"}
    assert carried.install(extras="jetson").returncode == 2


def test_a_dry_run_does_nothing_and_runs_no_module_of_the_current_folder(tmp_path: Path) -> None:
    here, programs, temporary = tmp_path / "here", tmp_path / "bin", tmp_path / "tmp"
    for one in (here, programs, temporary):
        one.mkdir()
    for name in POISONED:
        (here / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').write('x')\n")
    (programs / "systemctl").write_text("#!/bin/sh\necho 'systemd 252 (252)'\n")
    (programs / "apt-get").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    for one in programs.iterdir():
        one.chmod(0o755)
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "TMPDIR": str(temporary), "PYTHONPATH": str(here)}
    done = subprocess.run(
        [ROOT / "scripts/install", "--dry-run"],
        cwd=here, env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "--no-deps" in done.stdout
    assert "--require-hashes --only-binary :all:" in done.stdout
    assert not (tmp_path / "ran").exists()
    assert list(temporary.iterdir()) == []
    assert not Path("/opt/changeover").exists()
