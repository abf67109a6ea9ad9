"""The Debian package on a machine without a network: installed, upgraded, taken back, gone back, removed, purged."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from processes.test_time_slice import is_known
from support.machine import PACKAGES, Answer, Machine
from support.machine_plant import plant_beside
from support.running_agent import RunningAgent

from agent.processes.scheduling.time_slice import SHORTEST_NS

DARK_S = 2.0
"""Longest time without the line at an upgrade; on a busy machine, twice a plain restart where that is longer."""
VERSIONS = {"one": "0.9.1", "two": "0.9.2", "broken": "0.9.3"}


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Give a machine of its own, on which nothing was installed."""
    made = Machine(Path(os.environ["CHANGEOVER_TEST_MACHINE"]), tmp_path_factory.mktemp("box"))
    try:
        made.boot()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def before(box: Machine) -> set[str]:
    return box.files()


@pytest.fixture(scope="module")
def plant(box: Machine, before: set[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    assert before
    with plant_beside(box, tmp_path_factory.mktemp("broker")) as agent:
        yield agent


@pytest.fixture(scope="module")
def installed(box: Machine, plant: RunningAgent) -> Machine:
    """Give the machine with the first version installed, and line-1 ready for a product."""
    put(box, "one")
    plant.send("line/line-1/product/set", "bottle-500", retain=True)
    plant.until_said("line/line-1/ready", "bottle-500")
    return box


@pytest.fixture(scope="module", autouse=True)
def lintian(request: pytest.FixtureRequest) -> "Iterator[subprocess.Popen[str] | None]":
    """Begin its test behind the others, because it computes for a minute; None where that is left out."""
    is_asked = any(item.name == test_lintian_has_nothing_to_say.__name__ for item in request.session.items)
    if not is_asked or shutil.which("lintian") is None:
        yield None
        return
    command = ["nice", "-n", "19", "lintian", "--allow-root", "--fail-on", "error,warning", str(package("one"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        yield process
        process.kill()


def package(version: str) -> Path:
    folder = Path(os.environ["CHANGEOVER_TEST_MACHINE"]) / "packages"
    return next(folder.glob(f"changeover_{VERSIONS[version]}+*.deb"))


def put(machine: Machine, version: str, *, check: bool = True) -> Answer:
    """Install a package as a user does on a box without a network."""
    file = f"{PACKAGES}/{package(version).name}"
    return machine.run("unshare", "--net", "dpkg", "--install", file, check=check)


def running_version(machine: Machine) -> str:
    return machine.run("changeover", "--version").stdout.split()[1]


def slices_ns(pid: int) -> Iterator[int]:
    """Yield the time slice of each thread of a process, as the kernel tells it."""
    for file in Path(f"/proc/{pid}/task").glob("*/sched"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread may have ended
            yield int(re.findall(r"^se\.slice +: +(\d+)$", file.read_text(encoding="ascii"), re.MULTILINE)[0])


def dark_s(plant: RunningAgent, do: Callable[[], object]) -> float:
    """Return for how long `ready` does not name the product, at the broker, while something is done."""
    plant.until(lambda: plant.value("line/line-1/ready") == "bottle-500")
    mark = len(plant.heard)
    do()
    plant.until_said("line/line-1/live", "bottle-500", mark)
    plant.until(lambda: plant.value("line/line-1/ready") == "bottle-500" and plant.on("line/line-1/ready", mark))
    off = next(one for one in plant.on("line/line-1/ready", mark) if one.payload == b"0")
    on = next(one for one in plant.on("line/line-1/ready", mark) if one.payload not in {b"0", b""})
    assert on.at_s > off.at_s
    return on.at_s - off.at_s


def test_it_is_installed_started_and_ready(installed: Machine, plant: RunningAgent) -> None:
    assert running_version(installed) == VERSIONS["one"]
    assert installed.shows("ActiveState") == "active"
    assert installed.shows("User") == "changeover"
    assert installed.run("systemctl", "is-enabled", "changeover").stdout.strip() == "enabled"
    assert plant.value("line/line-1/ready") == "bottle-500"
    assert installed.run("stat", "--format=%U:%G %a", "/etc/changeover").stdout.strip() == "root:changeover 2750"
    said = installed.run("changeover", "doctor", "--as-service", check=False)
    assert (said.returncode, [line for line in said.stdout.splitlines() if line.startswith("fail")]) == (0, [])
    # compiled, so that the next start is as fast
    found = installed.run("find", "/usr/lib/changeover/current/", "-name", "cli.*.pyc").stdout
    assert found.strip()


def test_the_unit_lets_the_service_shorten_its_time_slices(installed: Machine) -> None:
    said = installed.journal()
    assert "event=child_up" in said, "what it says of its processes is there"
    assert "event=slice_not_set" not in said
    if not is_known():
        return  # this kernel takes the call, and keeps its own slices
    main = installed.main_process()
    family = [main, *main.children()]
    assert len(family) > 1
    assert {slice_ns for one in family for slice_ns in slices_ns(one.pid)} == {SHORTEST_NS}


def test_what_root_writes_under_umask_027_is_the_service_s_to_read(installed: Machine) -> None:
    write = "umask 027; echo x >/etc/changeover/mine; mkdir /etc/changeover/golden; echo x >/etc/changeover/golden/a"
    installed.run("sh", "-c", write)
    for name in ("mine", "golden/a"):
        assert installed.run("runuser", "-u", "changeover", "--", "cat", f"/etc/changeover/{name}").stdout == "x\n"
    installed.run("rm", "-r", "/etc/changeover/mine", "/etc/changeover/golden")
    refused = installed.run("runuser", "-u", "nobody", "--", "ls", "/etc/changeover", check=False)
    assert refused.returncode != 0


COMMANDS = (
    ["check"], ["run"], ["watch"], ["switch", "line-1", "17"], ["doctor"], ["forget"], ["models", "list"],
    ["models", "verify"], ["models", "prepare", "alpha"], ["models", "remove", "alpha:n@1"],
)  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_user_without_rights_gets_one_line(installed: Machine, words: list[str]) -> None:
    answer = installed.run("runuser", "-u", "nobody", "--", "changeover", *words, check=False)
    said = (answer.stdout + answer.stderr).splitlines()
    assert answer.returncode == 2, said
    assert len(said) == 1, said
    assert "/etc/changeover/changeover.toml" in said[0]
    assert "sudo" in said[0]


def test_completion_and_man_pages_are_there(installed: Machine) -> None:
    complete = (
        "source /usr/share/bash-completion/completions/changeover; COMP_WORDS=(changeover mod); COMP_CWORD=1; "
        "_changeover_completion changeover; echo ${COMPREPLY[@]}"
    )
    assert installed.run("bash", "-c", complete).stdout.split() == ["models"]
    pages = installed.run("sh", "-c", "ls /usr/share/man/man1/changeover*").stdout
    assert "changeover-models-add.1.gz" in pages


def test_an_upgrade_is_dark_for_a_restart_only(installed: Machine, plant: RunningAgent) -> None:
    configuration = plant.config.read_text()
    before_s = dark_s(plant, lambda: installed.run("systemctl", "restart", "changeover"))
    upgrade_s = dark_s(plant, lambda: put(installed, "two"))
    after_s = dark_s(plant, lambda: installed.run("systemctl", "restart", "changeover"))
    restart_s = max(before_s, after_s)
    print(f"dark: restart {restart_s:.2f} s, upgrade of the package {upgrade_s:.2f} s")  # noqa: T201 - figures for the docs
    assert running_version(installed) == VERSIONS["two"]
    assert plant.config.read_text() == configuration
    assert len(installed.run("ls", "/usr/lib/changeover/versions").stdout.split()) == 1
    assert upgrade_s <= max(DARK_S, 2 * restart_s)


def test_a_version_that_falls_over_is_taken_back(installed: Machine, plant: RunningAgent) -> None:
    mark = len(plant.heard)
    failed = put(installed, "broken", check=False)
    assert failed.returncode != 0
    assert "falls over when it starts" in failed.stderr
    assert "so 0.9.2" in failed.stderr
    assert running_version(installed) == VERSIONS["two"]
    assert installed.shows("ActiveState") == "active"
    plant.until_said("line/line-1/ready", "bottle-500", mark)
    assert len(installed.run("ls", "/usr/lib/changeover/versions").stdout.split()) == 1


def test_the_older_package_goes_back(installed: Machine, plant: RunningAgent) -> None:
    mark = len(plant.heard)
    put(installed, "one")
    assert running_version(installed) == VERSIONS["one"]
    plant.until_said("line/line-1/live", "bottle-500", mark)
    assert "install ok installed" in installed.run("dpkg", "--status", "changeover").stdout


def test_a_configuration_that_does_not_fit_changes_nothing(installed: Machine, plant: RunningAgent) -> None:
    right, pid = plant.config.read_text(), installed.shows("MainPID")
    plant.config.write_text(right + "\n[nonsense]\n")
    try:
        failed = put(installed, "two", check=False)
    finally:
        plant.config.write_text(right)
    assert failed.returncode != 0
    assert "nonsense" in failed.stdout + failed.stderr
    assert installed.shows("MainPID") == pid
    assert running_version(installed) == VERSIONS["one"]
    installed.run("dpkg", "--configure", "changeover")
    assert running_version(installed) == VERSIONS["two"]


def test_a_stopped_or_disabled_service_stays_so_over_an_upgrade(installed: Machine) -> None:
    installed.run("systemctl", "disable", "--now", "changeover")
    put(installed, "one")
    assert installed.shows("ActiveState") == "inactive"
    assert installed.run("systemctl", "is-enabled", "changeover", check=False).stdout.strip() == "disabled"
    installed.run("systemctl", "enable", "--now", "changeover")


def test_scripts_install_and_the_package_leave_each_other_alone(installed: Machine) -> None:
    refused = installed.install("two", check=False)
    assert refused.returncode == 1
    assert "apt-get remove changeover" in refused.stderr
    assert not (installed.root / "opt/changeover/versions").exists()


def test_removed_it_leaves_configuration_and_data_and_purged_nothing(
    installed: Machine, plant: RunningAgent, before: set[str]
) -> None:
    assert plant.config.exists()
    installed.run("dpkg", "--remove", "changeover")
    left = installed.files() - before - {"/etc/systemd/system/multi-user.target.wants/changeover.service"}
    assert [one for one in left if not one.startswith(("/etc/changeover", "/var/lib/"))] == []
    assert "/etc/changeover/changeover.toml" in left
    assert installed.run("pgrep", "--full", "changeover/", check=False).stdout == ""
    said = installed.run("dpkg", "--purge", "changeover").stderr
    assert "mosquitto_sub -h BROKER -t 'changeover/v1/DEVICE/#' --remove-retained" in said
    assert {one for one in installed.files() - before if "changeover" in one} == set()
    assert "changeover" not in installed.run("cat", "/etc/passwd", "/etc/group").stdout


@pytest.mark.skipif(shutil.which("lintian") is None, reason="needs lintian")
def test_lintian_has_nothing_to_say(box: Machine, lintian: "subprocess.Popen[str]") -> None:
    assert box.root.exists()
    said, _ = lintian.communicate(timeout=600)
    assert lintian.returncode == 0, said[-6000:]
