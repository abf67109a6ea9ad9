"""Private names of libraries that the code uses: there in the installed version, and bounded in pyproject.toml."""

import ast
import re
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from pydantic_settings import EnvSettingsSource

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PAHO = {
    "_sock_recv",
    "_packet_handle",
    "_handle_pubackcomp",
    "_ssl_wrap_socket",
    "_reset_sockets",
    "_in_packet",
    "_out_messages",
    "_inflight_messages",
    "_ssl_context",
    "_host",
    "_reconnect_on_failure",
}
PYDANTIC_SETTINGS = {"_load_env_vars"}
USES = {
    "paho-mqtt": (("agent/mqtt/link/connector.py", "agent/mqtt/blocking_client.py"), PAHO),
    "pydantic-settings": (("agent/settings/environment.py",), PYDANTIC_SETTINGS),
}


@pytest.mark.parametrize("name", sorted(PAHO))
def test_paho_has_it(name: str) -> None:
    assert hasattr(Client(CallbackAPIVersion.VERSION2), name), f"paho-mqtt {version('paho-mqtt')} lacks {name}"


@pytest.mark.parametrize("name", sorted(PYDANTIC_SETTINGS))
def test_pydantic_settings_has_it(name: str) -> None:
    assert hasattr(EnvSettingsSource, name), f"pydantic-settings {version('pydantic-settings')} lacks {name}"


@pytest.mark.parametrize("distribution", USES)
def test_a_library_whose_private_names_are_used_has_an_upper_bound_of_its_minor(distribution: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = next(one for one in project["dependencies"] if one.startswith(distribution))
    assert re.search(r"<\d+\.\d+$", wanted), wanted


@pytest.mark.parametrize("distribution", USES)
def test_each_name_in_the_list_is_used(distribution: str) -> None:
    files, names = USES[distribution]
    assert names <= {name for file in files for name in _private_names(ROOT / file)}


@pytest.mark.parametrize("distribution", USES)
def test_no_other_private_name_of_a_client_is_used(distribution: str) -> None:
    """Names that only our own classes have are ours; what is left is a library's, overridden ones too."""
    files, names = USES[distribution]
    theirs = {*dir(Client), *dir(EnvSettingsSource)}
    for file in files:
        assert _private_names(ROOT / file) - (_own_names(ROOT / file) - theirs) <= names


def test_no_other_file_takes_a_private_name_from_a_library() -> None:
    """So no other library needs an upper bound: the lock holds its version, and a new major is tried by the tests."""
    known = {ROOT / file for files, _ in USES.values() for file in files}
    found = [
        f"{file.relative_to(ROOT)}: {name}"
        for file in sorted((ROOT / "agent").rglob("*.py"))
        for name in sorted(_taken_from_libraries(file))
        if file not in known
    ]
    assert found == []


def test_no_upper_bound_without_a_private_name() -> None:
    """A bound that nothing asks for keeps the mending of a library away from devices."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounded = {re.split(r"[<>=]", one)[0] for one in project["dependencies"] if "<" in one.partition(";")[0]}
    assert bounded == USES.keys()


def _taken_from_libraries(file: Path) -> set[str]:
    """Return private modules, names and attributes that a file takes from what it imports from elsewhere."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found, imported = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            paths = {alias.name: alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            paths = {f"{node.module}.{alias.name}": alias.asname or alias.name for alias in node.names}
        else:
            continue
        for path, name in paths.items():
            if path.partition(".")[0] not in {"agent", "__future__", *sys.stdlib_module_names}:
                imported.add(name)
                found |= {path} if re.search(r"(^|\.)_[a-z]", path) else set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.match("_[a-z]", node.attr) and _root(node.value) in imported:
            found.add(node.attr)
    return found


def _root(node: ast.expr) -> str | None:
    """Return the name at the beginning of a chain of attributes and calls."""
    while isinstance(node, (ast.Attribute, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def _private_names(file: Path) -> set[str]:
    """Return the private attributes that a file reads, sets or overrides."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        name = getattr(node, "attr", None) if isinstance(node, ast.Attribute) else None
        name = node.name if isinstance(node, ast.FunctionDef) else name
        if name is not None and re.match("_[a-z]", name):
            found.add(name)
    return found


def _own_names(file: Path) -> set[str]:
    """Return what a file's functions and classes give themselves: methods, and attributes annotated or set in them."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        for target in _targets(node):
            if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self":
                found.add(target.attr)
    return found


def _targets(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Assign):
        return node.targets
    return [node.target] if isinstance(node, ast.AnnAssign) else []
