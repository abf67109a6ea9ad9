"""A plant whose line follows an alias of a registry, through the one pure function."""

import json
from pathlib import Path
from typing import Any

from agent.control.job import CANDIDATES_JOB
from agent.control.state import Line
from agent.messages.canary import Compared, ComparisonBegan, Counts
from agent.messages.short_lived.supply import FollowAliases
from support.scenario import Play

ALIAS = "mlflow://hub/cap-check@candidate"
SEALS = "mlflow://hub/seal-check@candidate"
MODELS = Path(__file__).parents[1] / "scenarios" / "models.toml"
LOOK_S = 300.0


def meaning(version: str) -> dict[str, Any]:
    file = f"mlflow://hub/cap-check/{version}"
    return {"name": "cap-check", "variant": "n", "version": version, "file": file, "sha256": version * 64}


class Plant:
    """A plant whose line-1 follows an alias, which means nothing yet."""

    def __init__(self, folder: Path, more: str = "", candidate: str = ALIAS) -> None:
        (folder / "settings.toml").write_text(
            f"""[catalog]
file = "{MODELS}"
[[stream]]
id = "cam-1"
line = "line-1"
source = "clip.avi"
[[stream]]
id = "cam-2"
line = "line-2"
source = "clip.avi"
[line.line-1]
default = "cap-check"
candidate = "{candidate}"
products = {{ "bottle-500" = "cap-check", "17" = "label-check" }}
[line.line-2]
default = "cap-check"
{more}
"""
        )
        self.come_up(folder)

    def come_up(self, folder: Path) -> None:
        self.play = Play(folder)
        self.play.supply.fetch_s = 0.5
        self.play._come_up()
        self.send("product/set", "bottle-500")

    def send(self, topic: str, value: object, line: str = "line-1") -> None:
        self.play._message(f"line/{line}/{topic}", {"payload": value})
        self.wait(1.0)

    def wait(self, seconds: float) -> None:
        self.play._until(self.play.t + seconds)

    def mean(self, version: str) -> None:
        """Let the alias move, and the device notice."""
        self.play.supply.means[ALIAS] = meaning(version)
        self.wait(LOOK_S + 10.0)

    def begin(self) -> None:
        """Let the worker begin the comparison."""
        self.play._give(ComparisonBegan("line-1", self.comparison.number))

    def count(self, **counts: Any) -> None:  # noqa: ANN401 - fields of Counts
        self.play._give(Compared("line-1", self.comparison.number, Counts(**counts)))

    @property
    def line(self) -> Line:
        return self.play.state.lines["line-1"]

    @property
    def comparison(self) -> Any:  # noqa: ANN401 - None is an error of the test
        return self.line.comparison

    @property
    def looks(self) -> list[FollowAliases]:
        return [one for one in self.play.supply.asked if isinstance(one, FollowAliases)]

    def job(self) -> dict[str, Any] | None:
        payload = self.play.state.orders.states.get(CANDIDATES_JOB)
        return dict(json.loads(payload)) if payload else None

    def told(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the results that looks were to write: the version, and what is said of it."""
        tags = [tag for look in self.looks for one in look.aliases for tag in one.tags]
        return [(version, json.loads(value)) for version, _, value in tags]

    def restart(self) -> None:
        self.play._restart({"restart": "whole"})
        self.wait(3.0)
