"""Words of the commands about which models are trusted."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion
from agent.settings import Settings
from agent.trust.configured import verifier_of


class TrustReader:
    """Says which versions of a catalog are trusted; opens a verifier only where something is configured."""

    def __init__(self, settings: Settings) -> None:
        """Open the verifier of the settings."""
        self._verifier = None
        self._why: ModelError | None = None
        try:
            self._verifier = verifier_of(settings)
        except ModelError as error:
            self._why = error

    @property
    def is_on(self) -> bool:
        """True where only signed models may be loaded."""
        return self._verifier is not None or self._why is not None

    def distrust(self, version: ModelVersion) -> ModelError | None:
        """Return why a version is not trusted; None where it is, or where any is. Reads the whole file."""
        if self._verifier is None:
            return self._why
        try:
            self._verifier.verify_file(version, Path(version.path))
        except ModelError as error:
            return error
        return None

    def column(self, version: ModelVersion) -> str:
        """Return the column of `models list` with a tab before it; empty where nothing is configured."""
        if not self.is_on:
            return ""
        why = self.distrust(version)
        return "\ttrusted" if why is None else f"\tNOT TRUSTED, {why.reason}: {why}"


def untrusted(settings: Settings, versions: Sequence[ModelVersion]) -> Iterator[str]:
    """Yield a remark of `check` for each version that is never loaded, because nobody trusted has signed it."""
    reader = TrustReader(settings)
    for version in versions if reader.is_on else ():
        why = reader.distrust(version)
        if why is not None:
            yield f"model {version.reference} is never loaded, {why.reason}: {why}"
