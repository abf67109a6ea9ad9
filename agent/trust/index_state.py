"""Age and revocations of the index, as the control process reports them. Imports no cryptography."""

import datetime as dt
from pathlib import Path
from typing import Final

import msgspec

from agent.files import open_regular
from agent.messages.references import ModelVersion

FOLDER: Final = "trust"
"""Folder of the state folder for what was verified."""
STATE_FILE: Final = "state.json"
_MOST_BYTES: Final = 4 << 20


class IndexState(msgspec.Struct, frozen=True):
    """A summary of the last verified index, for health, alerts, and lines that serve a revoked model."""

    issued: str = ""
    """Time of its signature, UTC; empty: not told."""
    expires: str = ""
    """Time after which a newer one should be there, UTC."""
    revoked_models: tuple[str, ...] = ()
    """References; one without a variant means all variants."""
    revoked_sha256: tuple[str, ...] = ()

    def age_s(self, now: dt.datetime) -> float | None:
        """Return the index's age in seconds; None where the index or the clock says no sensible time."""
        issued = _time(self.issued)
        age_s = (now - issued).total_seconds() if issued is not None else -1.0
        return age_s if age_s >= 0 else None

    def is_stale(self, now: dt.datetime) -> bool:
        """Return True once a newer index should have come; never by a clock that is behind."""
        expires = _time(self.expires)
        return expires is not None and now >= expires

    def revokes(self, version: ModelVersion) -> bool:
        """Return True where a version is revoked, by its name or by the sha256 of one of its files."""
        references = {version.reference, f"{version.name}@{version.version}"}
        hashes = {version.sha256, *(file.sha256 for file in version.files)}
        return bool(references & set(self.revoked_models) or hashes & set(self.revoked_sha256))


def read_index_state(state_dir: Path) -> IndexState | None:
    """Return the summary that the supply process or an import left in the state folder; None without one."""
    try:
        with open_regular(state_dir / FOLDER / STATE_FILE) as file:
            return msgspec.json.decode(file.read(_MOST_BYTES), type=IndexState)
    except (OSError, msgspec.MsgspecError):
        return None


def _time(text: str) -> dt.datetime | None:
    try:
        found = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
