"""scripts/build-deb: for another Debian and machine than this one, from a folder of wheels, without a network."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.wheels import installed_wheel, own_wheel, sha256, wheel

ROOT = Path(__file__).parents[2]
SITE = "./usr/lib/changeover/package/lib/python3.13/site-packages"
SHIPPED = (
    "scripts",
    "systemd",
    "config",
    "docs",
    "lock",
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "pyproject.toml",
    "agent",
)


class Checkout:
    """A checkout whose lock names little, and a folder of wheels for it."""

    def __init__(self, folder: Path) -> None:
        self.wheels, self.out = folder / "wheels", folder / "out"
        self.root = folder / "checkout"
        self.wheels.mkdir()
        for name in SHIPPED:
            source, target = ROOT / name, self.root / name
            target.parent.mkdir(exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("demo", "pictures"))
            else:
                shutil.copy(source, target)
        self.click = installed_wheel(self.wheels, "click")
        self.tiny = [self._tiny(python, machine) for python in ("cp311", "cp313") for machine in ("x86_64", "aarch64")]
        self.own = own_wheel(self.wheels, ROOT, "0.9.1+g0123abcd")
        self.own.with_name(f"{self.own.name}.sha256").write_text(f"{sha256(self.own)}  {self.own.name}\n")
        hashes = " ".join(f"--hash=sha256:{sha256(one)}" for one in self.tiny)
        locked = f"click=={self.click.name.split('-')[1]} --hash=sha256:{sha256(self.click)}\ntinydep==1.0 {hashes}\n"
        for name in ("base", "supply"):  # a package has both
            (self.root / f"lock/{name}.txt").write_text(locked)

    def _tiny(self, python: str, machine: str) -> Path:
        tag, files = f"{python}-{python}-manylinux2014_{machine}", {"tiny.py": f"# {python} {machine}\n"}
        requires = "Requires-Python: >=3.13\n" if python == "cp313" else ""
        return wheel(self.wheels, "tinydep", "1.0", tag=tag, files=files, requires=requires)

    def build(self, *options: str) -> "subprocess.CompletedProcess[str]":
        """Build where there is no way to any package source."""
        nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:1/simple", "PIP_RETRIES": "0", "PIP_TIMEOUT": "1"}
        nowhere["SOURCE_DATE_EPOCH"] = "1800000000"
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYENV_ROOT") if name in os.environ}
        command = [str(self.root / "scripts/build-deb"), "--wheels", str(self.wheels), *options, str(self.out)]
        return subprocess.run(
            command,
            env=kept | nowhere,
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )


def fields(package: Path) -> dict[str, str]:
    said = subprocess.run(["dpkg-deb", "--field", package], check=True, capture_output=True, text=True).stdout
    return dict(re.findall(r"^(\S+): ((?:.|\n )*)", said, re.MULTILINE))


pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="module")
def package(checkout: Checkout) -> Path:
    answer = checkout.build("--suite", "trixie", "--machine", "arm64")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return Path(answer.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def unpacked(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    subprocess.run(["dpkg-deb", "--raw-extract", package, folder], check=True)
    return folder


def test_it_is_of_its_debian_machine_and_version(package: Path) -> None:
    assert package.name == "changeover_0.9.1+git20270115080000.0123abcd+deb13_arm64.deb"
    told = fields(package)
    assert (told["Package"], told["Architecture"]) == ("changeover", "arm64")
    for one in ("python3 (>= 3.13)", "python3 (<< 3.14)", "libgl1", "libglib2.0-0t64", "libxcb1", "libseccomp2"):
        assert one in told["Depends"]
    for one, order, other in (
        (told["Version"], "gt", "0.9.1+deb13"),
        (told["Version"], "lt", "0.9.2+deb13"),
        (told["Version"], "lt", "0.9.1+git20270115080001.0000abcd+deb13"),
    ):
        assert subprocess.run(["dpkg", "--compare-versions", one, order, other], check=False).returncode == 0


def test_the_venv_inside_is_that_of_the_target(unpacked: Path) -> None:
    site = unpacked / SITE
    assert (site / "tiny.py").read_text() == "# cp313 aarch64\n"
    assert (site / "agent/cli/__init__.py").is_file()
    assert not list(unpacked.rglob("*.pyc"))
    program = unpacked / "usr/lib/changeover/package"
    assert (program / "bin/python").readlink() == Path("/usr/bin/python3.13")
    assert "version = 3.13" in (program / "pyvenv.cfg").read_text().splitlines()
    assert (program / "bin/changeover").read_text().startswith("#!/usr/lib/changeover/package/bin/python -I\n")


def test_the_service_its_account_and_its_files_are_those_of_the_installer(unpacked: Path) -> None:
    unit = (unpacked / "usr/lib/systemd/system/changeover.service").read_text()
    assert "ExecStart=/usr/lib/changeover/current/bin/changeover run" in unit
    assert "/opt/" not in unit
    ours = (ROOT / "systemd/changeover.service").read_text()
    assert len(unit.splitlines()) == len(ours.splitlines())
    for kind in ("sysusers", "tmpfiles"):
        assert (unpacked / f"usr/lib/{kind}.d/changeover.conf").read_text() == (
            ROOT / f"systemd/changeover.{kind}"
        ).read_text()
    assert (unpacked / "DEBIAN/conffiles").read_text() == "/etc/changeover/changeover.toml.example\n"


def test_all_that_is_packed_is_root_s(package: Path) -> None:
    said = subprocess.run(["dpkg-deb", "--contents", package], check=True, capture_output=True, text=True).stdout
    assert {line.split()[1] for line in said.splitlines()} == {"root/root"}
    rights = [line.split()[0] for line in said.splitlines() if not line.startswith("l")]
    assert not [one for one in rights if "w" in one[4:]], "nobody else may write"


def test_completion_and_a_man_page_for_each_command_are_inside(unpacked: Path) -> None:
    for name in ("bash-completion/completions/changeover", "zsh/vendor-completions/_changeover"):
        assert "_CHANGEOVER_COMPLETE" in (unpacked / "usr/share" / name).read_text()
    pages = {path.name.removesuffix(".1.gz") for path in (unpacked / "usr/share/man/man1").iterdir()}
    assert {
        "changeover",
        "changeover-check",
        "changeover-models-add",
        "changeover-switch",
        "changeover-forget",
    } <= pages


def test_the_scripts_of_the_package_are_whole(unpacked: Path) -> None:
    for name in ("preinst", "postinst", "prerm", "postrm"):
        script = unpacked / "DEBIAN" / name
        assert script.stat().st_mode & 0o777 == 0o755
        assert subprocess.run(["bash", "-n", script], check=False).returncode == 0


def test_a_wheel_with_one_byte_changed_is_refused(checkout: Checkout) -> None:
    tiny = checkout.tiny[-1]
    right = tiny.read_bytes()
    tiny.write_bytes(right[: len(right) // 2] + bytes([right[len(right) // 2] ^ 1]) + right[len(right) // 2 + 1 :])
    try:
        answer = checkout.build("--suite", "trixie", "--machine", "arm64")
    finally:
        tiny.write_bytes(right)
    assert answer.returncode == 1
    assert "DO NOT MATCH THE HASHES" in answer.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--suite", "buster"], "bookworm or trixie"), (["--machine", "armhf"], "amd64 or arm64"), (["--frob"], "--frob")],
)
def test_a_mistake_in_usage_is_2(checkout: Checkout, options: list[str], words: str) -> None:
    answer = checkout.build(*options)
    assert answer.returncode == 2
    assert words in answer.stderr
