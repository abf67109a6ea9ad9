"""Every alert that the agent can raise is explained where people look it up."""

import re
from pathlib import Path

from agent.app.children.web import web_process
from agent.app.observability import device_monitor, http_endpoints
from agent.mqtt import alert_latch

ROOT = Path(__file__).parents[2]
RAISED = re.compile(r'(?:Alert|Noticed)\(\s*"(\w+)"')


def test_each_code_has_a_row_in_the_documents() -> None:
    sources = [path.read_text() for path in (ROOT / "agent").rglob("*.py")]
    raised = {code for text in sources for code in RAISED.findall(text)}
    raised |= {http_endpoints.ALERT, web_process.ALERT, *device_monitor.ALERTS.values()}
    raised |= {
        alert_latch.BROKER_REFUSED,
        alert_latch.RIGHTS_MISSING,
        alert_latch.OUTBOX_DISK,
        alert_latch.OUTBOX_DAMAGED,
    }
    raised |= {alert_latch.MESSAGE_TOO_LARGE}
    rows = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "health.md").read_text(), re.MULTILINE))
    assert {"worker_lost", "unknown_product", "swap_failed"} <= raised
    assert raised - rows == set()
