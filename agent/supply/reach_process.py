"""Entry of the process that tries sources: `python -m agent.supply.reach_process`, a Request on stdin, answers out."""

import sys
from typing import Final

import msgspec

from agent.messages.errors import ModelError
from agent.messages.short_lived.probe_results import AskedSource, ProbedSource, SourceRequest
from agent.redact import redact
from agent.supply.errors import SourceError
from agent.supply.sources import resolve
from agent.supply.sources.hosts import Hosts
from agent.supply.sources.web import Web
from agent.supply.transfer.opened import opened
from agent.supply.transfer.pump import bounded
from agent.supply.wanted import Wanted

_STALL_S: Final = 10.0
"""Time limit of one source."""


def reach(request: SourceRequest) -> list[ProbedSource]:
    """Open each source and read its first bytes; nothing is kept."""
    with Web(Hosts(request.hosts), stall_s=_STALL_S) as web:
        return [_reach(source, web) for source in request.sources]


def _reach(source: AskedSource, web: Web) -> ProbedSource:
    reference = source.reference

    def first_bytes() -> int:
        with opened(resolve(Wanted(reference, source.sha256), web), web, 0, "") as found:
            return len(next(iter(found.chunks), b""))

    try:
        bounded(first_bytes, _STALL_S, reference)
    except (SourceError, ModelError) as error:
        return ProbedSource(reference, error.reason, redact(str(error)))
    return ProbedSource(reference)


if __name__ == "__main__":
    answers = reach(msgspec.json.decode(sys.stdin.buffer.read(), type=SourceRequest))
    sys.stdout.buffer.write(msgspec.json.encode(answers) + b"\n")
