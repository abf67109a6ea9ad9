"""Overrides from the environment: `CHANGEOVER_MQTT__URL=...`, read by pydantic-settings."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError as UnreadableError

from agent.settings.mistakes import Mistake
from agent.settings.model import Settings

PREFIX: Final = "CHANGEOVER_"
WHERE: Final = "environment"
CONFIG: Final = "CHANGEOVER_CONFIG"
_DELIMITER: Final = "__"
_NOT_SETTINGS: Final = ("CHANGEOVER_TEST_", "CHANGEOVER_DEMO_")
"""Prefixes of our scripts' own variables, which are ignored so that an agent started by a script accepts them."""


class _Overrides(BaseSettings, Settings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter=_DELIMITER)


class _Source(EnvSettingsSource):
    """Source that reads a given mapping, never the process's environment."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        super().__init__(_Overrides)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._variables.items()}


def variable(path: tuple[str | int, ...]) -> str:
    """Return the name of the environment variable that sets the configuration key at `path`."""
    return PREFIX + _DELIMITER.join(str(part).upper() for part in path)


def overrides(environ: Mapping[str, str]) -> tuple[dict[str, Any], list[Mistake]]:
    """Return the configuration tables that `environ` sets, and its mistakes, which never show an unreadable value."""
    tables: dict[str, dict[str, str]] = {}
    mistakes = []
    for name, value in environ.items():
        if not name.startswith(PREFIX) or name == CONFIG or name.startswith(_NOT_SETTINGS):
            continue
        table = name[len(PREFIX) :].partition(_DELIMITER)[0].lower()
        if table in Settings.model_fields:
            tables.setdefault(table, {})[name] = value
        else:
            mistakes.append(Mistake(WHERE, name, "an unknown variable", f"one of {PREFIX}{{{_tables()}}}__KEY"))
    values: dict[str, Any] = {}
    for table, variables in tables.items():
        read, unreadable = _read(table, variables)
        values.update(read)
        mistakes += unreadable
    return values, mistakes


def _read(table: str, variables: Mapping[str, str]) -> tuple[dict[str, Any], list[Mistake]]:
    try:
        return _Source(variables)(), []
    except UnreadableError:
        found = "a value that cannot be read"
        return {}, [Mistake(WHERE, variable((table,)), found, "plain values, and JSON for lists and tables")]


def _tables() -> str:
    return ",".join(name.upper() for name in Settings.model_fields)


def _alike(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return tables `below` overridden by `above`; names ignore case, dash and dot, so `LINE_1` matches `line-1`."""
    result = dict(below)
    names = {_alike(name): name for name in below}
    for key, value in above.items():
        name = key if key in below else names.get(_alike(key), key)
        old = result.get(name)
        result[name] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def comes_from(values: object, path: tuple[str | int, ...]) -> bool:
    """Return True where `values`, as returned by `overrides`, set the key at `path`."""
    for part in path:
        if isinstance(values, list):
            return True
        if not isinstance(values, dict):
            return False
        found = next((value for key, value in values.items() if _alike(key) == _alike(str(part))), None)
        if found is None:
            return False
        values = found
    return True
