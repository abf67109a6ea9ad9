"""Trouble is told when it begins and when it is over."""

from agent.messages.events import Noticed
from agent.mqtt.alert_latch import AlertLatch


def test_trouble_that_comes_and_goes_is_told_once_until_it_was_quiet() -> None:
    said: list[object] = []
    now_s = 0.0
    notices = AlertLatch(said.append, lambda: now_s)
    while now_s < 60:
        now_s += 5
        notices.on("outbox_disk", "full")
        notices.off("outbox_disk", 30)
    assert said == [Noticed("outbox_disk", on=True, detail="full")]
    now_s = 90.0
    notices.off("outbox_disk", 30)
    notices.off("outbox_disk", 30)
    assert said[1:] == [Noticed("outbox_disk", on=False)]
