"""State of the aliases that lines follow for their candidates."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.control.job import Job


@dataclass
class LineFollow:
    """State of the alias that a line follows; `canary/following.py` assigns it."""

    begun: str | None = None
    """Full reference that the alias meant when it was last acted on, so that it is acted on once."""
    told: str | None = None
    """Newest result that was written to the registry."""
    unwritten: str | None = None
    """Newest result that the registry answered to, but did not write; the next comparison does not wait for it."""


@dataclass
class Following:
    """Looks at the aliases that lines follow; `canary/following.py` assigns it."""

    look_at_s: float = 0.0
    """Time of the next look (monotonic)."""
    failures: int = 0
    """Looks in a row that failed."""
    fault: str = ""
    """Detail of what failed in the newest look, beside what it found."""
    look_job: "Job | None" = None
    """The job of the newest look, until its end is known."""
    meanings: dict[tuple[str, str], str] = field(default_factory=dict)
    """Full reference by alias and variant, as of the newest look."""
    telling: dict[str, str] = field(default_factory=dict)
    """Results that the look under way writes, by line."""
    tried: dict[str, str] = field(default_factory=dict)
    """Newest results for which a look was begun, by line, so that each has a look begin at once only once."""
    bringing: tuple[str, ...] = ()
    """Full references that a job brings to the catalog."""
    refused_until_s: dict[str, float] = field(default_factory=dict)
    """Time until which a full reference is not brought again, because its job failed (monotonic)."""
