"""A model that the index revokes while it serves: drained at the next safe point, and never loaded again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomlkit
from support.plant_index import PlantIndex, TrustingDevice, reader_of
from support.running_agent import RunningAgent, one_stream

PATIENCE_S = 240.0
"""Because what fetches steps back for everything else that the machine does."""


def test_a_revoked_model_leaves_the_line_that_serves_it(
    make_agent: Callable[..., RunningAgent], tmp_path: Path
) -> None:
    index = PlantIndex(tmp_path / "plant")
    for reference in ("alpha:n@1", "alpha:n@2", "beta:n@1"):
        index.add(reference, publish=False)
    index.publish()
    listed = TrustingDevice(tmp_path / "desk", index.root).verifier.accept_index(reader_of(index.path))
    entries = [json.loads(model.entry_at(str(index.path))) for model in listed]

    def trusting(settings: dict[str, Any]) -> None:
        one_stream(settings)
        (tmp_path / "models.toml").write_text(tomlkit.dumps({"model": entries}))
        settings["catalog"] |= {"index": f"file://{index.path}", "root": str(index.root)}

    agent = make_agent(trusting)
    agent.until_said("line/line-1/model/state", "alpha:n@2", deadline_s=PATIENCE_S)
    agent.ready("bottle-500")
    index.revoke("alpha@2")
    agent.send("cmd/reload", json.dumps({"id": "reload-1"}))

    def waits() -> bool:
        said = json.loads(agent.value("job/catalog/state") or "{}")
        return said.get("reason") != "cut_off" and "next changeover of line-1" in (said.get("detail") or "")

    agent.until(waits, PATIENCE_S)
    assert agent.value("line/line-1/model/state") == "alpha:n@2"
    agent.ready("17")
    agent.ready("crate")
    agent.until_said("line/line-1/model/state", "alpha:n@1", deadline_s=PATIENCE_S)
    agent.until(lambda: json.loads(agent.value("job/catalog/state") or "{}").get("state") == "done", PATIENCE_S)
    named = tomlkit.parse((tmp_path / "models.toml").read_text())["model"]
    assert ("alpha", "2") not in {(one["name"], one["version"]) for one in named}
