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
    """Names that our own classes define are ours; what is left is a library's."""
    files, names = USES[distribution]
    for file in files:
        assert _private_names(ROOT / file) - _own_names(ROOT / file) <= names


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
