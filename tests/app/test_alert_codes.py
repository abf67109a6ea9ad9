"""Every alert that the agent can raise is explained where people look it up."""

import re
from pathlib import Path

from agent.app import scraping, vitals
from agent.mqtt import notices

ROOT = Path(__file__).parents[2]
RAISED = re.compile(r'(?:Alert|Noticed)\(\s*"(\w+)"')


def test_each_code_has_a_row_in_the_documents() -> None:
    sources = [path.read_text() for path in (ROOT / "agent").rglob("*.py")]
    raised = {code for text in sources for code in RAISED.findall(text)}
    raised |= {scraping.ALERT, *vitals.ALERTS.values()}
    raised |= {notices.BROKER_REFUSED, notices.RIGHTS_MISSING, notices.OUTBOX_DISK, notices.OUTBOX_DAMAGED}
    raised |= {notices.MESSAGE_TOO_LARGE}
    rows = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "health.md").read_text(), re.MULTILINE))
    assert {"worker_lost", "unknown_product", "swap_failed"} <= raised
    assert raised - rows == set()
