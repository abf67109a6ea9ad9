"""An index of a plant's models, its keys, and a device that trusts it."""

import datetime as dt
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent.messages.references import ModelReference
from agent.models.keeping.copying import Release
from agent.trust.authoring import changes
from agent.trust.authoring.index_folder import IndexFolder
from agent.trust.authoring.key_folder import KeyFolder
from agent.trust.minisign import PublicKey
from agent.trust.stick.stick_files import read_inside
from agent.trust.verifier import Verifier
from support.tiny_models import write_tiny_model

YEAR_1970: Final = dt.datetime(1970, 1, 1, 0, 5, tzinfo=dt.timezone.utc)


def reference_of(text: str) -> ModelReference:
    """Return a reference that is known to be one."""
    found = ModelReference.parse(text)
    assert found is not None
    return found


def no_password(name: str) -> str:
    """Fail where a password is asked for that no key of a test has."""
    raise AssertionError(f"asked for the password of {name}")


class PlantIndex:
    """An index with its key folder; each method changes it and publishes."""

    def __init__(self, folder: Path, threshold: int = 1) -> None:
        self.path = folder / "index"
        self.keys = KeyFolder(folder / "keys", no_password)
        self.key_path = folder / "keys"
        self.index = IndexFolder(self.path, self.keys)
        changes.begin(self.index, self.keys, lambda _: None, threshold)

    @property
    def root(self) -> Path:
        """The first root, as a device has it."""
        return self.path / "root.json"

    def add(self, reference: str, *, role: str = "targets", publish: bool = True) -> "PlantIndex":
        """Add a tiny model whose content is its reference."""
        source = write_tiny_model(self.path.parent / f"{reference.replace(':', '-')}.onnx", names=(reference,))
        details = changes.Details(Release(reference_of(reference)), {"confidence": 0.4})
        changes.add(self.index, source, details, role)
        return self.publish() if publish else self

    def publish(self, days: int = 400) -> "PlantIndex":
        """Publish what is there."""
        changes.publish(self.index, days)
        return self

    def revoke(self, what: str) -> "PlantIndex":
        """Revoke a model."""
        changes.revoke(self.index, what)
        return self.publish()

    def rotate(self, use: str) -> "PlantIndex":
        """Replace all keys of a use by a new one."""
        old = changes.current_keys(self.index, use)
        changes.rotate(self.index, use, (self.new_key(use),), old, None)
        return self.publish()

    def new_key(self, use: str) -> PublicKey:
        """Make a key in the key folder."""
        return self.keys.make(self.keys.new_name(use), None)

    def copy(self, to: Path) -> Path:
        """Copy the served folder, as it is now."""
        shutil.copytree(self.path, to)
        return to


class TrustingDevice:
    """A device with the root of an index, and a state folder."""

    def __init__(self, folder: Path, root: Path, *, require_fresh: bool = False) -> None:
        folder.mkdir(parents=True)
        self.root = folder / "root.json"
        shutil.copy(root, self.root)
        self.state_dir = folder / "state"
        self.state_dir.mkdir()
        self._require_fresh = require_fresh
        self.verifier = self.restarted()

    def restarted(self) -> Verifier:
        """Return a verifier as after a restart."""
        return Verifier((), str(self.root), str(self.state_dir), require_fresh=self._require_fresh)

    def take(self, folder: Path, now: dt.datetime | None = None) -> list[str]:
        """Accept the index in a folder; return the references of its models."""
        return [model.reference for model in self.restarted().accept_index(reader_of(folder), now)]


def reader_of(folder: Path) -> Callable[[str, int], bytes | None]:
    """Return what reads the files of an index in a folder."""
    return lambda name, most_bytes: read_inside(folder, name, most_bytes)
