"""Documents reach the web process as fast as it takes them, and never more of them than are bounded."""

from agent.app.children.web.document_feed import DocumentFeed
from agent.app.children.web.request_counts import RequestCounts
from agent.messages.web.control import Document, Documents, RequestCount, RequestsCounted

BASE = "changeover/v1/box"


class Feeding:
    """A feed with a web process that takes a batch when told to."""

    def __init__(self) -> None:
        self.sent: list[Documents] = []
        self.feed = DocumentFeed(BASE, self.sent.append)

    def put(self, name: str, payload: bytes, *, is_state: bool = True) -> None:
        self.feed.put(f"{BASE}/{name}", payload, is_state)

    def items(self) -> list[tuple[str, bytes]]:
        return [(one.topic, one.payload) for batch in self.sent for one in batch.items]


def test_a_process_that_starts_late_gets_every_state_and_no_old_event() -> None:
    feeding = Feeding()
    feeding.put("status", b"online")
    feeding.put("line/a/switch", b"{}", is_state=False)
    feeding.put("status", b"stopped")
    feeding.feed.open()
    assert feeding.items() == [("status", b"stopped")]


def test_one_batch_at_a_time_is_under_way_and_of_a_state_the_newest_value_follows() -> None:
    feeding = Feeding()
    feeding.feed.open()
    for number in range(10):
        feeding.put("health", b"%d" % number)
    assert feeding.items() == [("health", b"0")]
    feeding.feed.taken()
    assert feeding.items() == [("health", b"0"), ("health", b"9")]


def test_an_unchanged_state_is_not_sent_again_and_a_cleared_one_is_told_once() -> None:
    feeding = Feeding()
    feeding.feed.open()
    for payload in (b"1", b"1", b"", b""):
        feeding.put("job/x/state", payload)
        feeding.feed.taken()
    assert feeding.items() == [("job/x/state", b"1"), ("job/x/state", b"")]
    feeding.feed.open()
    assert len(feeding.items()) == 2


def test_events_beyond_the_bound_are_dropped_the_oldest_first_and_counted() -> None:
    feeding = Feeding()
    feeding.feed.open()
    for number in range(400):
        feeding.put("line/a/switch", b"%d" % number, is_state=False)
    while True:
        before = len(feeding.sent)
        feeding.feed.taken()
        if len(feeding.sent) == before:
            break
    values = [int(payload) for _, payload in feeding.items()]
    assert values == [0, *range(144, 400)]
    assert feeding.feed.dropped == 143
    assert feeding.sent[-1].dropped == 143


def test_a_document_that_fits_no_message_is_dropped_and_counted() -> None:
    feeding = Feeding()
    feeding.feed.open()
    feeding.put("meta", b"x" * 100_000)
    assert (feeding.items(), feeding.feed.dropped) == ([], 1)


def test_topics_of_others_are_not_shown() -> None:
    feeding = Feeding()
    feeding.feed.open()
    feeding.feed.put("plc/answers", b"{}", False)
    assert feeding.items() == []


def test_counts_go_on_over_a_restart_of_the_web_process() -> None:
    counts = RequestCounts()
    counts.take(RequestsCounted((RequestCount("mes", "a:n@1", "ok", 3, 0.5),)))
    counts.take(RequestsCounted((RequestCount("mes", "a:n@1", "ok", 5, 0.75),)))
    counts.restarted()
    counts.take(RequestsCounted((RequestCount("mes", "a:n@1", "ok", 2, 0.25),)))
    assert counts.totals() == {("mes", "a:n@1", "ok"): (7, 1.0)}


def test_a_document_is_what_was_published() -> None:
    feeding = Feeding()
    feeding.feed.open()
    feeding.put("line/a/ready", b"17")
    assert feeding.sent[0].items == (Document("line/a/ready", b"17", is_state=True),)
