"""Frames that come and are not answered withdraw `ready`; streams without frames, slow models and loads do not."""

from dataclasses import dataclass, field, replace

import pytest
from support.plant_bench import Bench, alerts, lives, states

from agent.control.actions import Action, RestartWorker
from agent.control.events import FramesSeen, Seen, Tick, WorkerUp
from agent.messages.children import Breaking

STREAMS = ("cam-1", "cam-2", "cam-3")
STEP_S = 0.1


@dataclass
class Frames:
    """Frames that come each `period_s`, and are answered after `takes_s`, to a bench with a clock of its own."""

    bench: Bench
    seen: dict[str, Seen] = field(default_factory=lambda: dict.fromkeys(STREAMS, Seen()))

    def run(
        self,
        seconds: float,
        *,
        stream: str = "cam-1",
        period_s: float = 0.1,
        takes_s: float = 0.05,
        fate: str = "answered",
    ) -> list[Action]:
        """Let time pass; return the actions. `fate` of the frames of `stream`: answered, failed, lost or waiting."""
        actions: list[Action] = []
        due_s, ends_s = self.bench.now_s, 0.0
        for _ in range(round(seconds / STEP_S)):
            self.bench.now_s += STEP_S
            now_s = self.bench.now_s
            for id_ in STREAMS:
                if id_ != stream:
                    self.seen[id_] = replace(self.seen[id_], offered_s=now_s - 0.06, answered_s=now_s - 0.01)
            one = self.seen[stream]
            if now_s >= due_s:
                due_s += period_s
                one = replace(one, offered_s=now_s, waiting=fate == "waiting")
                ends_s = ends_s or now_s + takes_s
            if ends_s and now_s >= ends_s and fate in {"answered", "failed"}:
                ends_s = 0.0
                is_good = fate == "answered"
                one = (
                    replace(one, answered_s=now_s, missed=0)
                    if is_good
                    else replace(one, missed_s=now_s, missed=one.missed + 1)
                )
            self.seen[stream] = one
            actions += self.bench.give(FramesSeen(dict(self.seen)), Tick())
        return actions


@pytest.fixture
def frames(bench: Bench) -> Frames:
    """Give a plant that is ready, with frames that are answered."""
    bench.product("bottle-500")
    bench.swap()
    made = Frames(bench)
    made.run(1.0)
    assert bench.said("line/line-1/ready") == "bottle-500"
    return made


@pytest.mark.parametrize(
    ("fate", "taken", "words"),
    [
        ("failed", True, "frames come and fail, "),
        ("lost", True, "frames come and are taken and not answered"),
        ("waiting", False, "frames come and are not taken"),
    ],
)
def test_the_alert_says_what_becomes_of_the_frames(frames: Frames, fate: str, *, taken: bool, words: str) -> None:
    frames.seen["cam-1"] = replace(frames.seen["cam-1"], taken_s=1e9 if taken else 0.0)
    (raised,) = [one for one in alerts(frames.run(2.7, fate=fate)) if one.on]
    assert raised.detail is not None
    assert raised.detail.startswith(words)


@pytest.mark.parametrize("fate", ["failed", "lost", "waiting"])
def test_whatever_keeps_the_answers_ready_is_withdrawn_in_time_and_comes_back(frames: Frames, fate: str) -> None:
    bench = frames.bench
    frames.run(61.0)  # long after the swap: nothing is on trial any more
    actions = frames.run(2.7, fate=fate)
    assert states(actions, "line/line-1/ready") == ["0"]
    assert (bench.said("line/line-1/ready"), bench.said("line/line-2/ready")) == ("0", "0")
    assert [one.code for one in alerts(actions) if one.on] == ["frames_unanswered"]
    assert lives(frames.run(2.0, fate=fate)) == [], "no heartbeat while frames are not answered"
    back = frames.run(0.5)
    assert states(back, "line/line-1/ready") == ["bottle-500"]
    assert [(one.code, one.on) for one in alerts(back)] == [("frames_unanswered", False)]


@pytest.mark.parametrize(("period_s", "takes_s"), [(0.1, 0.05), (3.0, 0.2), (0.1, 1.8), (3.0, 1.8), (30.0, 0.2)])
def test_few_frames_or_slow_answers_are_no_trouble(frames: Frames, period_s: float, takes_s: float) -> None:
    actions = frames.run(95.0, period_s=period_s, takes_s=takes_s)
    assert states(actions, "line/line-1/ready") == []
    assert alerts(actions) == []


def test_a_stream_that_waits_for_its_turn_at_a_slow_model_is_answered(frames: Frames) -> None:
    frames.seen["cam-1"] = replace(frames.seen["cam-1"], turn_s=3.6, infer_s=1.2)
    assert alerts(frames.run(40.0, takes_s=3.5)) == []
    assert [one.code for one in alerts(frames.run(6.0, fate="lost")) if one.on] == ["frames_unanswered"]


@pytest.mark.parametrize("turn_s", [2.5, 4.0, 9.9])
def test_many_streams_of_a_fast_model_have_no_more_than_the_three_seconds(frames: Frames, turn_s: float) -> None:
    frames.run(61.0)
    frames.seen["cam-1"] = replace(frames.seen["cam-1"], turn_s=turn_s, infer_s=0.99)
    assert alerts(frames.run(20.0, takes_s=2.5)) == []
    assert states(frames.run(2.9, fate="lost"), "line/line-1/ready") == ["0"]


def test_a_triggered_camera_may_have_one_bad_frame_but_not_two(frames: Frames) -> None:
    frames.seen["cam-1"] = replace(frames.seen["cam-1"], steady=False)
    assert alerts(frames.run(30.0, period_s=100.0, fate="failed")) == []
    actions = frames.run(3.0, period_s=100.0, fate="failed")
    assert [one.code for one in alerts(actions) if one.on] == ["frames_unanswered"]


def test_a_line_that_a_load_makes_blind_owes_no_answer(frames: Frames) -> None:
    bench = frames.bench
    bench.product("17")
    bench.give(Breaking("line-1", bench.state.lines["line-1"].assignment.change))
    assert alerts(frames.run(20.0, fate="waiting")) == []
    bench.swap()
    frames.run(0.5)
    assert bench.said("line/line-1/ready") == "17"


def test_a_changeover_onto_frames_that_are_not_answered_says_no_ready(frames: Frames) -> None:
    bench = frames.bench
    frames.run(3.0, fate="lost")
    bench.product("17")
    bench.swap()
    assert states(frames.run(5.0, fate="lost"), "line/line-1/ready") == []
    assert bench.said("line/line-1/ready") == "0"
    frames.run(0.5)
    assert bench.said("line/line-1/ready") == "17"


def test_a_changeover_of_a_stream_without_frames_does_not_wait_for_one(frames: Frames) -> None:
    bench = frames.bench
    frames.run(3.0, fate="lost")
    bench.product("17")
    bench.swap()
    for _ in range(20):
        bench.now_s += STEP_S
        bench.give(FramesSeen(dict(frames.seen)), Tick())
    assert bench.said("line/line-1/ready") == "17"


def test_many_failures_start_a_new_worker_and_each_in_vain_waits_longer(frames: Frames) -> None:
    bench = frames.bench
    frames.run(61.0)
    waits = []
    for _ in range(3):
        began_s = bench.now_s
        while not any(isinstance(one, RestartWorker) for one in frames.run(0.1, fate="failed")):
            assert bench.now_s - began_s < 100
        waits.append(bench.now_s - began_s)
        bench.lose_worker()
        frames.seen["cam-1"] = replace(frames.seen["cam-1"], missed=0)
        bench.give(WorkerUp())
        bench.swap("line-1")
        bench.swap("line-2")
    assert waits[0] <= 10.5
    assert waits[2] > 1.5 * waits[1] > 2 * waits[0]
    frames.run(0.3)
    assert bench.said("line/line-1/ready") == "bottle-500"


def test_frames_that_stand_start_a_new_worker(frames: Frames) -> None:
    actions = frames.run(12.0, fate="waiting")
    assert len([one for one in actions if isinstance(one, RestartWorker)]) == 1


def test_control_that_was_away_blames_nobody(frames: Frames) -> None:
    bench = frames.bench
    bench.now_s += 30.0
    frames.seen["cam-1"] = replace(frames.seen["cam-1"], offered_s=bench.now_s - 0.01)
    assert alerts(bench.give(FramesSeen(dict(frames.seen)), Tick())) == []
    assert alerts(frames.run(3.0)) == []
