"""lock/: complete, hashed, from nowhere in particular, and no more in it than a device needs."""

import json
import re
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "lock"
MOST = 25
EXTRAS = ("ultralytics", "onnxruntime", "supply", "web", "nvidia", "jetson")
TARGETS = [(version, machine) for version in ("3.10", "3.11", "3.12", "3.13") for machine in ("x86_64", "aarch64")]
BASES = [(LOCK / "base.txt", target) for target in TARGETS] + [
    (LOCK / "jetpack/base.txt", (version, "aarch64")) for version in ("3.10", "3.12")
]
ALL = [(LOCK / f"{name}.txt", target) for name in ("base", *EXTRAS) for target in TARGETS] + [
    (LOCK / f"jetpack/{name}.txt", (version, "aarch64")) for name in ("base", *EXTRAS) for version in ("3.10", "3.12")
]
LEFT_OUT = {"openvino-telemetry"}
"""Requirements of openvino that no device gets (decision 83)."""
REQUIRES: dict[str, list[str]] = json.loads((LOCK / "requires.json").read_text(encoding="utf-8"))
"""Requirements of each locked package, as scripts/lock read them from the wheels' metadata."""
each_file = pytest.mark.parametrize(
    ("file", "target"), ALL, ids=[f"{file.parent.name}-{file.stem}-{'-'.join(target)}" for file, target in ALL]
)
each_base = pytest.mark.parametrize(
    ("file", "target"), BASES, ids=[f"{file.parent.name}-{version}-{machine}" for file, (version, machine) in BASES]
)


@cache
def entries(file: Path) -> list[tuple[Requirement, list[str]]]:
    """Return what a lock file names, each with its hashes."""
    found = []
    for entry in re.split(r"\n(?=\S)", file.read_text(encoding="utf-8").strip().replace("\\\n", " ")):
        words, *hashes = re.split(r"\s+--hash=sha256:", entry.strip())
        found.append((Requirement(words), hashes))
    return found


def environment(target: tuple[str, str]) -> dict[str, str]:
    version, machine = target
    return {
        "python_version": version,
        "python_full_version": f"{version}.4",
        "platform_machine": machine,
        "sys_platform": "linux",
    }


@cache
def locked(file: Path, target: tuple[str, str]) -> dict[str, str]:
    """Return the versions by name that hold for one Python on one machine."""
    found: dict[str, str] = {}
    for requirement, _ in entries(file):
        if requirement.marker is None or requirement.marker.evaluate(environment(target)):
            name = canonicalize_name(requirement.name)
            assert name not in found, f"two of {name}"
            found[name] = str(requirement.specifier).removeprefix("==")
    return found


def asked(file: Path, target: tuple[str, str]) -> list[tuple[str, Requirement]]:
    """Return what the locked packages ask for there, each with who asks; extras as far as somebody asks for them."""
    there = locked(file, target)
    known = {name: [Requirement(text) for text in REQUIRES[f"{name}=={version}"]] for name, version in there.items()}
    extras: dict[str, set[str]] = {name: {""} for name in known}
    found: list[tuple[str, Requirement]] = []
    to_do = [(name, "") for name in known]
    while to_do:
        name, extra = to_do.pop()
        for one in known[name]:
            if one.marker is not None and not one.marker.evaluate({**environment(target), "extra": extra}):
                continue
            found.append((name, one))
            asked_of = canonicalize_name(one.name)
            new = one.extras - extras.get(asked_of, one.extras)
            extras.get(asked_of, set()).update(new)
            to_do += [(asked_of, each) for each in new]
    return found


def wanted(target: tuple[str, str], extra: str | None = None) -> list[Requirement]:
    """Return what pyproject.toml asks for there."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return [
        one
        for one in map(Requirement, texts)
        if one.marker is None or Marker(str(one.marker)).evaluate(environment(target))
    ]


def test_each_entry_has_one_version_and_its_hashes_and_no_file_names_where_to_fetch() -> None:
    files = sorted(LOCK.rglob("*.txt"))
    assert {file.relative_to(LOCK).as_posix() for file in files} == {
        "build.txt",
        *(f"{folder}{name}.txt" for folder in ("", "jetpack/") for name in ("base", *EXTRAS)),
    }
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host", text), file
        for requirement, hashes in entries(file):
            assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), (file, requirement)
            assert hashes, (file, requirement)
            assert all(re.fullmatch("[0-9a-f]{64}", one) for one in hashes), (file, requirement)


@each_base
def test_the_base_is_small(file: Path, target: tuple[str, str]) -> None:
    found = locked(file, target)
    assert len(found) <= MOST, sorted(found)
    if file.parent.name == "jetpack":
        assert found["numpy"].startswith("1."), "what JetPack's OpenCV and torch were compiled for"


@each_file
def test_what_the_project_asks_for_is_locked_beside_the_base(file: Path, target: tuple[str, str]) -> None:
    there = locked(file, target)
    assert locked(file.with_name("base.txt"), target).items() <= there.items()
    for one in wanted(target, None if file.stem == "base" else file.stem):
        name = canonicalize_name(one.name)
        assert name in there, one
        assert one.specifier.contains(there[name]), one


@each_file
def test_all_that_a_locked_package_asks_for_is_locked(file: Path, target: tuple[str, str]) -> None:
    there = locked(file, target)
    for who, one in asked(file, target):
        name = canonicalize_name(one.name)
        if name not in LEFT_OUT:
            assert name in there, f"{who} asks for {one}"
            assert one.specifier.contains(there[name], prereleases=True), f"{who} asks for {one}"


def test_what_the_packages_ask_for_is_noted_for_these_and_no_others() -> None:
    there = {f"{name}=={version}" for file, target in ALL for name, version in locked(file, target).items()}
    assert REQUIRES.keys() == there, "the lock was changed by hand: run scripts/lock"


def test_what_is_noted_is_what_the_installed_packages_say() -> None:
    compared = 0
    for key, noted in REQUIRES.items():
        name, _, version = key.partition("==")
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            continue
        if installed.version == version:
            said = {str(Requirement(text)) for text in installed.requires or []}
            assert {text for text in said if "extra ==" not in text} == {t for t in noted if "extra ==" not in t}, key
            compared += 1
    assert compared, "nothing is installed of what is locked"


def test_nothing_that_only_sends_is_locked() -> None:
    there = {canonicalize_name(one.name) for file in LOCK.rglob("*.txt") for one, _ in entries(file)}
    assert not {name for name in there if "telemetry" in name or name in {"sentry-sdk", "posthog"}}


def test_any_extras_fit_together() -> None:
    for target in TARGETS:
        together: dict[str, str] = {}
        for extra in EXTRAS:
            for name, version in locked(LOCK / f"{extra}.txt", target).items():
                assert together.setdefault(name, version) == version, (target, extra, name)


def test_each_package_of_the_base_is_in_the_docs_with_what_it_is_for() -> None:
    told = dict(re.findall(r"^\| `([^`]+)` \| (.+?) \|", (ROOT / "docs/packages.md").read_text("utf-8"), re.MULTILINE))
    assert all(told.values())
    there = {name for file, target in BASES for name in locked(file, target)}
    assert told.keys() == there
