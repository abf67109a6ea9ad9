"""Each part of control's state is assigned by one module."""

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.control import stages, state, workers
from agent.control.comparisons import comparison, followed

ROOT = Path(__file__).parents[2]
OWNERS = {
    state.Selection: "lines/selection.py",
    state.LineSchedule: "inputs/schedule.py",
    state.Limits: "inputs/bandwidth.py",
    state.Preloads: "lines/preload.py",
    state.Preparation: "lines/preload.py",
    state.Assignment: "lines/changeover.py",
    state.Changeover: "lines/changeover.py",
    state.Serving: "lines/serving.py",
    state.Published: "lines/report.py",
    state.Scheduling: "inputs/schedule.py",
    state.Bandwidth: "inputs/bandwidth.py",
    state.Identity: "inputs/duplicate_device.py",
    workers.Answering: "lines/unanswered_frames.py",
    workers.Likely: "lines/likely_models.py",
    workers.Group: "lines/workers.py",
    comparison.Comparison: "canary/steps.py",
    followed.LineFollow: "canary/following.py",
    followed.Following: "canary/following.py",
}
WHOLE = {"changeover": "lines/changeover.py", "comparison": "canary/steps.py", "rules": "inputs/operator_commands.py"}
MUTATORS = {"append", "add", "clear", "discard", "extend", "insert", "pop", "remove", "setdefault", "update"}


def parts() -> Iterator[tuple[str, str]]:
    """Give each field of a part, and the module that may assign it."""
    for part, owner in OWNERS.items():
        for field in dataclasses.fields(part):
            yield field.name, owner
    for field in dataclasses.fields(state.Line):
        yield field.name, WHOLE.get(field.name, "snapshot.py")  # which restores whole parts


def assigned(file: Path) -> Iterator[tuple[str, int]]:
    """Give the attributes that a file sets, deletes or changes in place, without those of `self`."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        target: ast.expr | None = None
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, (ast.Store, ast.Del)):
            target = node
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, (ast.Store, ast.Del)):
            target = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
            target = node.func.value
        if isinstance(target, ast.Attribute) and not (isinstance(target.value, ast.Name) and target.value.id == "self"):
            yield target.attr, target.lineno


def strangers(folder: Path) -> list[str]:
    """Return each place where a module assigns a field of a part that it does not own."""
    owners: dict[str, set[str]] = {}
    for name, owner in parts():
        owners.setdefault(name, set()).add(owner)
    return [
        f"{file.relative_to(folder)}:{line} assigns {name}, which is {' or '.join(owners[name])}'s"
        for file in sorted(folder.rglob("*.py"))
        for name, line in assigned(file)
        if name in owners and file.relative_to(folder).as_posix() not in owners[name]
    ]


def test_each_part_is_assigned_by_its_owner_alone() -> None:
    assert strangers(ROOT / "agent/control") == []


def test_the_application_only_reads_the_state() -> None:
    of_state = {name for name, _ in parts()}
    reads = {"_state", "state", "line", "known"}
    for file in sorted((ROOT / "agent/app").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr in of_state:
                names = {one.id for one in ast.walk(node.value) if isinstance(one, ast.Name)}
                attributes = {one.attr for one in ast.walk(node.value) if isinstance(one, ast.Attribute)}
                assert not (names | attributes) & reads, f"{file}:{node.lineno} assigns {node.attr}"


@pytest.mark.parametrize(
    "mutant",
    [
        "line.selection.product = 'a'",
        "del line.published.payloads['a']",
        "line.preloads.preparations.append(one)",
        "line.serving = Serving()",
        "pending.stage = Stage.FAILED",
    ],
)
def test_the_checker_is_checked(tmp_path: Path, mutant: str) -> None:
    (tmp_path / "stranger.py").write_text(mutant + "\n", encoding="utf-8")
    assert len(strangers(tmp_path)) == 1


def test_each_stage_of_a_changeover_can_end() -> None:
    assert set(stages.MOVES) == set(stages.Stage)
    ends = {stage for stage, following in stages.MOVES.items() if not following}
    assert ends == {stages.Stage.SWITCHED, stages.Stage.FAILED, stages.Stage.SUPERSEDED}
    assert all(ends <= following for stage, following in stages.MOVES.items() if stage not in ends)
