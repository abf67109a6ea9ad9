"""Replay rate of kept messages."""

from collections.abc import Callable

from support.mini_broker import MUTE, MiniBroker, Rules
from support.station import Station

from agent.mqtt.publishing.replay_rate import RATE_PER_S, ReplayRateLimiter


def test_a_fast_way_is_used_up_to_the_rate_and_no_further() -> None:
    pace, sent = ReplayRateLimiter(), 0
    for millisecond in range(10_000):
        while pace.may_send(millisecond / 1000):
            pace.sent()
            sent += 1
    assert 0.8 * RATE_PER_S * 10 < sent <= RATE_PER_S * 10 + 100


def test_one_replayed_message_a_stream_is_in_flight(make_station: Callable[..., Station]) -> None:
    broker = MiniBroker(Rules(on_publish=lambda _topic, _payload: MUTE))
    broker.start()
    try:
        station = make_station(broker.port, protocol="5", ping_topic=None)
        for number in range(20):
            station.publisher.send_detection("cam-1", b"%d" % number)
            station.publisher.send_detection("cam-2", b"%d" % number)
        station.until(lambda: len(broker.of("/replay")) == 2)
        station.publisher.send_event(station.topics.of_device("alert"), b"behind them")
        station.until(lambda: broker.of("/alert"))
        assert [one.payload for one in broker.of("/replay")] == [b"0", b"0"]
    finally:
        broker.stop()
