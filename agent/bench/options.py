"""Options of a benchmark's run."""

from dataclasses import dataclass
from pathlib import Path

from agent.demo.assets import default_cache_dir


@dataclass(frozen=True)
class Options:
    """Options of the command line, and a run's folder."""

    folder: Path
    """Temporary files of this run."""
    swaps: int = 1000
    """Number of resident swaps."""
    quick: bool = False
    """Few repeats: shows that the benchmark works, not how fast."""
    rounds: int = 0
    """Number of rounds; 0: the benchmark's own."""
    seconds: float = 0.0
    """Length of one measurement; 0: the benchmark's own."""
    precision: str = ""
    """Precision in which everything computes; empty: the one that a preparation chooses."""

    part: str = ""
    """The only part to measure, of a benchmark that has several; empty: all."""

    size: int = 0
    """The only size of pictures to measure, in pixels, of a benchmark that has several; 0: all."""

    @property
    def models_dir(self) -> Path:
        """Folder of built models, kept from run to run."""
        return default_cache_dir() / "bench-models"
