"""Recognition of the answer to a request, and the exit code of each reason."""

from typing import Any

import msgspec
import pytest

from agent.messages.errors import MistakeError, TransientError
from agent.messages.topics import Topics
from agent.switch.outcome_text import as_json, error_of, readable
from agent.switch.progress import Progress
from agent.switch.request import Request, make_request

TOPICS = Topics("changeover/v1", "box-7")
LINE = "line/line-1"


class Story:
    """A request for product 17 (or a model), and what the device says after it."""

    def __init__(self, text: str = "17", *, is_model: bool = False) -> None:
        self.request = Request("line-1", text, is_model, id="a1")
        self.progress = Progress(TOPICS, self.request)
        self.progress.sent = True

    def say(self, topic: str, payload: object) -> "Story":
        encoded = payload.encode() if isinstance(payload, str) else msgspec.json.encode(payload)
        self.progress.take(f"{TOPICS.base}/{topic}", encoded)
        return self

    def answer(self, result: str, reason: str | None = None, id_: str = "a1") -> "Story":
        topic = f"{TOPICS.base}/{LINE}/{self.request.name}"
        return self.say("ack", {"id": id_, "topic": topic, "result": result, "reason": reason, "detail": None})

    def report(self, result: str, reason: str | None = None) -> "Story":
        return self.say(f"{LINE}/switch", report(result, reason))


def report(result: str, reason: str | None = None) -> dict[str, Any]:
    named = {"line": "line-1", "product": "17", "from": "a:n@1", "to": "b:n@1", "cause": {"rule": "product"}}
    when = {"requested_at": "2026-01-01T06:00:00.000Z", "ready_at": None}
    how = {"result": result, "reason": reason, "residency": "cold", "order": "make-before-break"}
    times = {"load_ms": 0.0, "warmup_ms": 0.0, "total_ms": 1234.5, "blind_ms": 0.0, "frames_lost": 0}
    return named | when | how | times


def test_done_and_ready_are_both_needed() -> None:
    story = Story().say(f"{LINE}/ready", "0").answer("accepted").report("switched").answer("done")
    assert not story.progress.is_settled
    story.say(f"{LINE}/ready", "17")
    assert story.progress.is_settled
    assert error_of(story.request, story.progress) is None
    assert "took     1.23 s in all" in "\n".join(readable(story.request, story.progress))


def test_ready_for_the_product_is_no_answer_yet() -> None:
    assert not Story().say(f"{LINE}/ready", "17").answer("accepted").progress.is_settled


@pytest.mark.parametrize("id_", ["a2", ""])
def test_somebody_elses_answer_is_passed_over(id_: str) -> None:
    assert Story().answer("rejected", "unknown_product", id_).progress.ack is None


def test_the_report_of_a_changeover_before_is_not_ours() -> None:
    story = Story().report("superseded", "superseded").answer("rejected", "unknown_product")
    assert story.progress.report is None
    assert msgspec.json.decode(as_json(story.request, story.progress))["switch"] is None


@pytest.mark.parametrize(
    ("result", "reason", "kind"),
    [
        ("rejected", "unknown_product", MistakeError),
        ("rejected", "expired", TransientError),
        ("failed", "proof_failed", MistakeError),
        ("failed", "superseded", TransientError),
        ("failed", "no_memory", TransientError),
        ("failed", "timeout", TransientError),
    ],
)
def test_the_reason_decides_whether_a_retry_may_help(result: str, reason: str, kind: type[Exception]) -> None:
    story = Story().report("failed", reason).answer(result, reason)
    assert story.progress.is_settled
    error = error_of(story.request, story.progress)
    assert type(error) is kind
    assert str(error) == f"line-1: {result}, {reason}"


def test_an_operators_model_that_serves_the_product_too_is_good() -> None:
    story = Story().answer("noop", "overridden")
    assert not story.progress.is_settled, "whether the line is ready comes after the answer"
    story.say(f"{LINE}/ready", "17").say(f"{LINE}/state", state("17"))
    assert story.progress.is_reached
    story = Story().say(f"{LINE}/ready", "0").say(f"{LINE}/state", state("17")).answer("noop", "overridden")
    assert story.progress.is_settled
    assert isinstance(error_of(story.request, story.progress), MistakeError)


def test_a_product_that_was_noted_before_under_an_operator_is_settled_by_its_answer() -> None:
    story = Story().say(f"{LINE}/ready", "0")
    story.progress.take(f"{TOPICS.base}/{LINE}/state", msgspec.json.encode(state("17")), retained=True)
    story.answer("noop", "overridden")
    assert story.progress.is_settled, "nothing changed, so no other state will come"
    assert isinstance(error_of(story.request, story.progress), MistakeError)


def state(product: str) -> dict[str, Any]:
    named = {"line": "line-1", "product": product, "model": "a:n@1", "phase": "idle", "wanted": "a:n@1"}
    return named | {"cause": {"rule": "operator"}, "since": "2026-01-01T06:00:00.000Z", "boot": "9f3a51c2"}


def test_a_cap_may_lower_the_variant_of_a_model_that_was_asked_for() -> None:
    story = Story("cap-check:x", is_model=True).answer("done")
    assert not story.progress.is_settled
    assert story.say(f"{LINE}/model/state", "cap-check:n@3").progress.is_reached


@pytest.mark.parametrize("payload", [b"\xff\xfe{", b"[" * 100_000, b"{}", b""])
def test_whatever_is_published_breaks_nothing(payload: bytes) -> None:
    story = Story()
    for topic in story.progress.topics():
        story.progress.take(topic, payload)
    assert not story.progress.is_settled
    story.answer("rejected", "unknown_product")
    assert all(line.isprintable() for line in readable(story.request, story.progress))


def test_a_forgotten_option_sends_nothing_unless_it_is_a_product() -> None:
    with pytest.raises(MistakeError, match="--model"):
        make_request("line-1", "cap-check:n@3", is_model=False, products=frozenset())
    assert make_request("line-1", "SKU:7", is_model=False, products=frozenset({"SKU:7"})).name == "product/set"
    assert make_request("line-1", "cap-check", is_model=False, products=None).name == "product/set"


@pytest.mark.parametrize(
    ("line", "text", "is_model"),
    [
        ("a/b", "17", False),
        ("+", "17", False),
        ("line-1", "", False),
        ("line-1", "x" * 65, False),
        ("line-1", "a@", True),
    ],
)
def test_what_no_device_could_take_is_a_mistake(line: str, text: str, is_model: bool) -> None:  # noqa: FBT001
    with pytest.raises(MistakeError):
        make_request(line, text, is_model=is_model, products=None)
