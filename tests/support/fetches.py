"""A store, a fetcher and jobs for tests of the supply process."""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

from agent.messages.short_lived.supply import FetchProgress, SupplyHost, SupplySetup
from agent.supply.bounds.job import Job
from agent.supply.bounds.token_bucket import TokenBucket
from agent.supply.bounds.window import Window
from agent.supply.fetching import Fetcher, Verifier
from agent.supply.transfer.pace import Pace
from agent.supply.verifying import verifier_of

QUICK = Pace(backoff_s=0.05, fruitless=4)
"""A transfer that tries again soon, and waits for a slow machine."""
HASTY = Pace(stall_s=0.5, slow_s=0.5, backoff_s=0.05, fruitless=4)
"""A transfer that lets a test of a source that hangs end soon."""


def content_of(size_bytes: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size_bytes)


def entry(file: str | Path, content: bytes, **more: object) -> dict[str, Any]:
    """Return a model's entry whose file has this content."""
    sha256 = hashlib.sha256(content).hexdigest()
    return {"name": "cap", "variant": "n", "version": "1", "file": str(file), "sha256": sha256} | more


class Fetches:
    """A store in `folder` that fetches."""

    def __init__(  # noqa: PLR0913 - each is a setting
        self,
        folder: Path,
        *hosts: SupplyHost,
        verifier: Verifier | None = None,
        pace: Pace = QUICK,
        max_bytes: int = 1 << 30,
        min_free_bytes: int = 0,
        max_kbps: int = 0,
        trusted_keys: tuple[str, ...] = (),
        root: str = "",
        index: str = "",
    ) -> None:
        self.folder = folder
        self.store_dir = folder / "store"
        places = (str(self.store_dir), str(folder / "models.toml"), str(folder))
        self.setup = SupplySetup(
            *places,
            max_bytes,
            min_free_bytes,
            max_kbps,
            hosts=tuple(hosts),
            trusted_keys=trusted_keys,
            index=index,
            root=root,
        )
        self.told: list[FetchProgress] = []
        self._pace = pace
        self._verifier = verifier or verifier_of(self.setup)

    def fetch(self, *entries: dict[str, Any], index: str = "", max_s: float = 60.0) -> list[dict[str, Any]]:
        """Fetch models, as a new process does; return their entries."""
        fetcher, content = (
            Fetcher(self.setup, self._verifier, self._pace),
            [json.dumps(one).encode() for one in entries],
        )
        return [json.loads(one) for one in fetcher.fetch(content, index, self.job(max_s))]

    def job(self, max_s: float = 60.0) -> Job:
        """Return a job that begins now."""
        window = Window(self.setup.window, self.setup.timezone)
        return Job("job-1", max_s, self.told.append, window=window, bucket=TokenBucket(self.setup.max_kbps * 125))

    def leftovers(self) -> list[str]:
        """Return what lies in the store beside whole releases."""
        parts = [path for path in (self.store_dir / ".parts").glob("*") if path.name != "lock"]
        return sorted(str(path.relative_to(self.store_dir)) for path in (*parts, *self.store_dir.glob(".draft*")))

    def require_only(self, *contents: bytes) -> None:
        """Hold that the store has these files whole, and nothing else."""
        hashes = {hashlib.sha256(one).hexdigest() for one in contents}
        found = {path.parent.name: path for path in self.store_dir.glob("sha256/*/model*") if path.suffix != ".minisig"}
        assert set(found) == hashes
        assert all(hashlib.sha256(path.read_bytes()).hexdigest() == name for name, path in found.items())
        assert self.leftovers() == []
