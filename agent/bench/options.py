"""What a benchmark is told."""

from dataclasses import dataclass
from pathlib import Path

from agent.demo.material import default_cache_dir


@dataclass(frozen=True)
class Options:
    """`folder` is for one run's own files; `swaps` resident ones; `quick`: few repeats, figures for nobody.

    `rounds` of pairs, and `seconds` for one look; 0 is what the benchmark takes by itself.
    """

    folder: Path
    swaps: int = 1000
    quick: bool = False
    rounds: int = 0
    seconds: float = 0.0

    @property
    def models_dir(self) -> Path:
        """Where the models are kept from one run to the next."""
        return default_cache_dir() / "bench"
