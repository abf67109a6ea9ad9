"""Topics out and topics in."""

from paho.mqtt.client import topic_matches_sub

from agent.control.inputs import routes
from agent.messages.topics import Topics, is_id
from agent.mqtt.endpoint.link_settings import LinkSettings

TOPICS = Topics("changeover/v1", "box-7")
BASE = "changeover/v1/box-7"


def test_outgoing() -> None:
    assert TOPICS.status == f"{BASE}/status"
    assert TOPICS.of_device("alerts") == f"{BASE}/alerts"
    assert TOPICS.of_line("line-1", "model/state") == f"{BASE}/line/line-1/model/state"
    assert TOPICS.of_stream("cam-1", "replay") == f"{BASE}/stream/cam-1/replay"


def test_what_is_published_and_swept_is_one_table() -> None:
    published = TOPICS.published(["line-1"], ["cam-1"])
    assert len(published) == len(set(published)) == 8 + 7 + 4
    for topic in (TOPICS.status, f"{BASE}/line/line-1/switch", f"{BASE}/stream/cam-1/replay"):
        assert topic in published
    for filter_ in TOPICS.swept:
        assert any(topic_matches_sub(filter_, topic) for topic in [*published, TOPICS.of_job("job-7")]), filter_
    assert TOPICS.ping not in published


def test_commands_hold_bindings_once() -> None:
    filters = routes.filters(BASE, ("plant/a", "plant/a"))
    assert filters.count("plant/a") == 1
    assert f"{BASE}/line/+/product/set" in filters
    assert f"{BASE}/cmd/+" in filters


def test_an_answer_never_goes_onto_a_topic_of_the_devices_own() -> None:
    assert TOPICS.may_answer("plc/answers")
    assert not TOPICS.may_answer(f"{BASE}/line/line-1/ready")
    assert not TOPICS.may_answer(f"{TOPICS.root}/another-device/line/line-1/product/set")
    assert not TOPICS.may_answer(TOPICS.root)
    assert not TOPICS.may_answer("$SYS/broker")
    assert not TOPICS.may_answer("$share/group/plc/answers")


def test_ids() -> None:
    assert is_id("line-1.A_b")
    assert not any(is_id(text) for text in ("", "a/b", "a b", "x" * 65, "ä", "a\n"))


def test_no_password_is_ever_shown() -> None:
    assert "secret" not in repr(LinkSettings("a", 1883, "", password=b"secret"))


def test_what_the_device_publishes_is_told_from_commands_and_from_others() -> None:
    topics = Topics("changeover/v1", "box-7")
    published = topics.published(["line-1", "gone"], ["cam-1"])
    assert all(topics.is_published(topic) for topic in published)
    of_line = ("line/line-1/product/set", "line/line-1/prepare", "line/a b/ready")
    for name in (*of_line, "schedule/set", "cmd/reload", "ping", ""):
        assert not topics.is_published(f"{topics.base}/{name}"), name
    assert not topics.is_published("changeover/v1/box-70/status")
    assert not topics.is_published("status")
