"""Log lines of changeovers and alerts."""

import logging
from typing import Final

from agent.control.comparisons.comparison import Comparison
from agent.messages.payloads import Alert, Switch

_log: Final = logging.getLogger(__name__)


def tell(event: Switch | Alert) -> None:
    """Log a changeover, or an alert that was raised or cleared."""
    match event:
        case Switch():
            _log.log(
                logging.INFO if event.result in {"switched", "superseded"} else logging.WARNING,
                "event=switch line=%s product=%r from=%s to=%s result=%s reason=%s residency=%s total_ms=%.1f rule=%s",
                event.line,
                event.product,
                event.from_,
                event.to,
                event.result,
                event.reason,
                event.residency,
                event.total_ms,
                event.cause.rule,
            )
        case Alert():
            _log.log(
                logging.WARNING if event.on else logging.INFO,
                "event=alert code=%s on=%s line=%s stream=%s detail=%r",
                event.code,
                event.on,
                event.line,
                event.stream,
                event.detail,
            )


def tell_end(line: str, one: Comparison) -> None:
    """Log the end of a comparison of two versions, with its numbers."""
    _log.log(
        logging.WARNING if one.result == "rolled_back" else logging.INFO,
        "event=comparison line=%s candidate=%s stable=%s mode=%s result=%s reason=%s frames=%d detail=%r",
        line,
        one.candidate,
        one.stable,
        one.mode,
        one.result,
        one.end_reason,
        one.counts.frames,
        one.end_detail,
    )
