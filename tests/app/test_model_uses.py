"""The list of models in memory, for whoever deletes files of the store."""

from pathlib import Path

from agent.app.state_disk.model_uses import ModelUses
from agent.messages.children import ResidentModel
from agent.messages.references import ModelVersion
from agent.models.in_use import read_in_use

CAP = ModelVersion("cap", "n", "1", "/store/sha256/a/model.onnx", "a" * 64)


def resident(name: str, reserved_for: str | None = None) -> ResidentModel:
    return ResidentModel(name, 1, "active", "2026-01-01T00:00:00.000Z", reserved_for)


def test_a_model_stays_in_use_when_the_catalog_forgets_it(tmp_path: Path) -> None:
    uses = ModelUses(tmp_path)
    uses.note([resident("cap:n@1")], [CAP])
    uses.note([resident("cap:n@1")], [])
    assert read_in_use(tmp_path) == {CAP.path: "cap:n@1 is in memory (active)"}
    uses.note([], [CAP])
    assert read_in_use(tmp_path) == {}


def test_an_announcement_is_named(tmp_path: Path) -> None:
    ModelUses(tmp_path).note([resident("cap:n@1", "line-1")], [CAP])
    assert read_in_use(tmp_path) == {CAP.path: "cap:n@1 is in memory, reserved for line-1"}


def test_what_cannot_be_written_is_tried_again_at_the_next_change(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    uses = ModelUses(folder)
    uses.note([resident("cap:n@1")], [CAP])
    folder.mkdir()
    uses.note([resident("cap:n@1")], [CAP])
    assert CAP.path in read_in_use(folder)
