"""The kernel's walls of groups: cgroups of their own where they are delegated, and the reason where they are not."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.waiting import until

from agent.app.children.groups.walls import Walls

WEIGHTS = {"default": 100, "press": 50}


class Tree:
    """A folder that looks as a cgroup that is delegated to this process does."""

    def __init__(
        self, folder: Path, controllers: str = "cpuset cpu io memory pids", pids: tuple[int, ...] = ()
    ) -> None:
        self.root = folder / "cgroup"
        self.service = self.root / "system.slice" / "changeover.service"
        self.service.mkdir(parents=True)
        (self.service / "cgroup.controllers").write_text(f"{controllers}\n")
        (self.service / "cgroup.procs").write_text("\n".join(map(str, (os.getpid(), *pids))) + "\n")
        (self.service / "cgroup.subtree_control").write_text("")
        self.membership = folder / "membership"
        self.membership.write_text("0::/system.slice/changeover.service\n")

    def walls(self) -> Walls:
        built = Walls(WEIGHTS, self.root, self.membership)
        built.build()
        return built

    def holds(self, name: str) -> str:
        return (self.service / name).read_text()


def test_each_worker_gets_a_cgroup_with_its_weight_and_limit(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    walls = tree.walls()
    assert walls.missing == ""
    assert tree.holds("control/cgroup.procs") == str(os.getpid()), "because processes may only be in leaves"
    assert tree.holds("cgroup.subtree_control") == "+cpu +memory"
    assert [tree.holds(f"group-{group}/cpu.weight") for group in WEIGHTS] == ["100", "50"]
    assert tree.holds("control/cpu.weight") == "150"
    walls.admit("press", 4242)
    walls.limit({"default": 900, "press": 300})
    assert tree.holds("group-press/cgroup.procs") == "4242"
    assert [tree.holds(f"group-{group}/memory.max") for group in WEIGHTS] == ["900", "300"]


def test_the_kernel_may_take_long_to_lower_a_limit(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    walls = tree.walls()
    walls.limit({"default": 500, "press": 500})
    limit = tree.service / "group-press" / "memory.max"
    limit.unlink()
    os.mkfifo(limit)  # into which nobody writes until it is read
    walls.limit({"press": 100, "default": 900})
    assert tree.holds("group-default/memory.max") == "900"
    reader = os.open(limit, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(reader, "rb", buffering=0) as kernel:
        until(lambda: kernel.read(10) == b"100")


def test_a_second_start_finds_the_cgroups_of_the_first(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.walls()
    assert tree.walls().missing == ""


def test_a_controller_that_is_not_delegated_is_named(tmp_path: Path) -> None:
    tree = Tree(tmp_path, controllers="memory pids")
    assert "cpu" in tree.walls().missing
    assert not (tree.service / "control").exists()


def test_a_system_without_cgroup_2_says_so(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.membership.write_text("8:memory:/a\n4:cpu:/a\n")
    assert tree.walls().missing == "this system has no cgroup v2"
    tree.membership.unlink()
    assert "Delegate=yes" in tree.walls().missing


@pytest.fixture
def stranger() -> Iterator[int]:
    """Give the id of a running process that is no child of this one."""
    code = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'input()'], stdin=0).pid, flush=True)"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.wait()
        yield pid
        assert parent.stdin is not None
        parent.stdin.close()


def test_a_cgroup_that_others_share_is_left_as_it_is(tmp_path: Path, stranger: int) -> None:
    tree = Tree(tmp_path, pids=(stranger,))
    assert f"({stranger})" in tree.walls().missing
    assert not (tree.service / "control").exists()


def test_a_refusal_in_the_middle_leaves_all_as_it_was(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    (tree.service / "cgroup.subtree_control").unlink()
    (tree.service / "cgroup.subtree_control").mkdir()  # so that writing to it fails
    walls = tree.walls()
    assert "Delegate=yes" in walls.missing
    assert tree.holds("cgroup.procs") == str(os.getpid())
    walls.admit("press", 4242)
    walls.limit({"press": 300})
    assert not (tree.service / "group-press").exists()


def test_a_worker_that_hangs_has_a_tenth_of_its_weight_until_the_next_one(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    walls = tree.walls()
    walls.restrain("press", 10)
    assert [tree.holds(f"group-{group}/cpu.weight") for group in WEIGHTS] == ["100", "5"]
    walls.admit("press", 4242)
    assert tree.holds("group-press/cpu.weight") == "50"


def test_what_the_kernel_killed_at_a_groups_limit_is_said_of_the_worker_that_it_had_then(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    walls = tree.walls()
    events = tree.service / "group-press" / "memory.events"
    walls.limit({"press": 300 << 20})
    walls.admit("press", 4242)
    assert walls.reached("press") == "", "no such file: the kernel has no controller of memory"
    events.write_text("low 0\nhigh 0\nmax 0\noom 0\noom_kill 1\noom_group_kill 0\n")
    assert walls.reached("press") == "", "because the kernel killed it for the device's memory"
    walls.admit("press", 4242)
    events.write_text("low 0\nhigh 0\nmax 7\noom 1\noom_kill 3\noom_group_kill 0\n")
    assert walls.reached("press") == "the kernel killed 2 of its group's processes, whose memory limit is 300 MiB"
    walls.admit("press", 4243)
    assert walls.reached("press") == ""
    assert walls.reached("default") == ""
