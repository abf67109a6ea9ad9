"""One place for the version: checkout, worktree, clone without tags, sdist, wheel and installer agree."""

import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = ("setup.py", "pyproject.toml", "README.md", "LICENSE")


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Give a repository of one commit, without tags; the package's other modules are left out, because none is read."""
    folder = tmp_path / "checkout"
    (folder / "agent").mkdir(parents=True)
    for name in (*SHARED, "agent/__init__.py"):
        shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "all")
    return folder


def said(folder: Path) -> str:
    command = [sys.executable, "-I", "-B", str(folder / "agent" / "__init__.py")]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def number() -> str:
    return str(runpy.run_path(str(ROOT / "agent" / "__init__.py"))["NUMBER"])


def test_a_checkout_says_its_commit_packed_or_not_detached_or_in_a_worktree(checkout: Path, tmp_path: Path) -> None:
    wanted = f"{number()}+g{git(checkout, 'rev-parse', 'HEAD')[:9]}"
    assert said(checkout) == wanted
    git(checkout, "pack-refs", "--all")
    assert said(checkout) == wanted
    git(checkout, "worktree", "add", "--quiet", "-b", "other", str(tmp_path / "other"))
    assert said(tmp_path / "other") == wanted
    git(checkout, "checkout", "--quiet", "--detach")
    assert said(checkout) == wanted
    git(tmp_path, "clone", "--quiet", "--depth", "1", checkout.as_uri(), "clone")
    assert said(tmp_path / "clone") == wanted


def test_what_is_no_checkout_says_the_number_alone(checkout: Path) -> None:
    shutil.rmtree(checkout / ".git")
    assert said(checkout) == number()
    (checkout / ".git").write_text("gitdir: nowhere")
    assert said(checkout) == number()


def build(folder: Path, hook: str, target: Path) -> Path:
    target.mkdir()
    code = f"import setuptools.build_meta as build; print(build.{hook}({str(target)!r}))"
    answer = subprocess.run([sys.executable, "-c", code], check=False, cwd=folder, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    return target / answer.stdout.splitlines()[-1]


def test_a_wheel_says_the_commit_it_was_built_from_also_by_way_of_an_sdist(checkout: Path, tmp_path: Path) -> None:
    pytest.importorskip("setuptools", "77")
    wanted = said(checkout)
    wheels = [build(checkout, "build_wheel", tmp_path / "direct")]
    sdist = build(checkout, "build_sdist", tmp_path / "sdist")
    shutil.unpack_archive(sdist, tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    assert said(source) == wanted
    wheels.append(build(source, "build_wheel", tmp_path / "by-sdist"))
    for place, wheel in enumerate(wheels):
        assert wheel.name.split("-")[1] == wanted
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(tmp_path / f"installed-{place}")
        assert said(tmp_path / f"installed-{place}") == wanted


def test_the_installer_asks_the_same_place(checkout: Path) -> None:
    script = (ROOT / "scripts" / "install").read_text(encoding="utf-8")
    body = script.partition("version_here() {")[2].partition("\n}")[0]
    for find, wanted in ((f"echo {sys.executable}", said(checkout)), ("true", number())):
        code = f"HERE={checkout}; WHEELS=; find_python() {{ {find}; }}; version_here() {{{body}\n}}; version_here"
        answer = subprocess.run(["bash", "-euc", code], check=True, capture_output=True, text=True)
        assert answer.stdout.strip() == wanted
