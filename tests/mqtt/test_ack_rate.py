"""The agent's own measure of the way to the broker."""

from agent.mqtt.publishing.ack_rate import AckRate


def test_nothing_is_known_before_it_has_been_behind_for_five_seconds() -> None:
    rate = AckRate()
    for half_seconds in range(10):
        rate.look(half_seconds / 2, is_behind=True)
        rate.arrived(500)
        assert rate.kbps(half_seconds / 2) is None
    rate.look(5.0, is_behind=True)
    assert rate.kbps(5.0) == 8.0


def test_a_moment_with_nothing_waiting_begins_anew() -> None:
    rate = AckRate()
    for second in range(20):
        rate.look(float(second), is_behind=second % 4 != 0)
        rate.arrived(1000)
        assert rate.kbps(float(second)) is None


def test_it_follows_the_last_seconds_only() -> None:
    rate = AckRate()
    for second in range(30):
        rate.look(float(second), is_behind=True)
        rate.arrived(100_000 if second < 15 else 1000)
    assert rate.kbps(30.0) == 8.0
