"""The ping to itself: when a link is dead, when it is deaf, and when it is merely busy."""

from agent.mqtt.link.echo_ping import EchoPing

KEEPALIVE_S = 10.0


def echoed_once() -> EchoPing:
    """Return one whose first ping came back at 0 s; the next is due at 5 s."""
    pings = EchoPing(KEEPALIVE_S)
    payload = pings.due(0.0)
    assert payload is not None
    pings.echoed(payload, 0.0)
    assert pings.milliseconds == 0.0
    return pings


def test_a_link_on_which_nothing_comes_is_dead_within_twice_the_keepalive() -> None:
    pings = echoed_once()
    assert pings.due(5.0) is not None
    assert not pings.is_overdue(15.0, arrived_s=0.0)
    assert pings.is_overdue(15.1, arrived_s=0.0)


def test_commands_that_crowd_an_echo_out_are_life_and_the_ping_is_sent_anew() -> None:
    pings = echoed_once()
    assert pings.due(5.0) is not None
    for second in range(6, 120):
        pings.heard(float(second))
        assert not pings.is_overdue(second + 0.5, arrived_s=float(second))
    again = pings.due(120.0)
    assert again is not None
    pings.echoed(again, 120.5)
    assert pings.milliseconds == 500.0


def test_acknowledgements_alone_are_life_for_a_slow_way_but_not_for_ever() -> None:
    pings = echoed_once()
    assert pings.due(5.0) is not None
    assert not pings.is_overdue(34.0, arrived_s=34.0)
    assert pings.due(16.0) is not None
    assert pings.is_overdue(35.1, arrived_s=35.0), "deaf: it acknowledges, and delivers nothing"


def test_where_no_ping_ever_came_back_it_is_silent_and_never_overdue() -> None:
    pings = EchoPing(KEEPALIVE_S)
    for second in range(60):
        pings.due(float(second))
        assert not pings.is_overdue(float(second), arrived_s=0.0)
        assert pings.is_silent(float(second)) is (second > KEEPALIVE_S)
