"""A candidate beside the model that serves: who answers which frame, what is counted, and what ends it."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from inference.worker.dummies import MIB, DummyRuntime, PlantOfDummies, wait_for
from inference.worker.plant import DEADLINE_S, Feeder

from agent.control.comparisons.totals import added
from agent.inference.comparing import line_comparison
from agent.inference.comparing.deadline import deadline_s
from agent.inference.comparing.line_comparison import LineComparison
from agent.inference.comparing.memory_growth import MemoryGrowth
from agent.inference.comparing.share import is_of_share
from agent.inference.serving.slack import Gap, Slack
from agent.messages.canary import (
    CanaryMode,
    CanaryReason,
    Compare,
    Compared,
    ComparisonBegan,
    ComparisonFailed,
    Counts,
    StopComparing,
)
from agent.messages.children import CacheState, Detections, InferenceFailed, PrepareFailed
from agent.messages.errors import ModelError

NewDummies = Callable[..., PlantOfDummies]


class Pair:
    """A worker whose line-1 runs `stable`, with `candidate` loaded beside it."""

    def __init__(self, plant: PlantOfDummies, runtime: DummyRuntime) -> None:
        self.plant = plant
        self.runtime = runtime
        self.stable, self.candidate = runtime.make("stable"), runtime.make("candidate")
        for behaviour in runtime.behaviours.values():
            behaviour.label = "cap"
        plant.switch(self.stable)
        plant.prepare(self.candidate, is_candidate=True)
        self.number = 0

    def compare(self, mode: CanaryMode = "shadow", share: float = 1.0, **fields: Any) -> None:  # noqa: ANN401 - of Compare
        self.number += 1
        asked = {"memory_bytes": 64 * MIB} | fields
        self.plant.send(Compare("line-1", self.number, self.candidate, mode, share, **asked))

    def run(self, mode: CanaryMode = "shadow", share: float = 1.0, **fields: Any) -> None:  # noqa: ANN401 - of Compare
        self.compare(mode, share, **fields)
        self.plant.wait_until(lambda: any(one.number == self.number for one in self.plant.of(ComparisonBegan)))

    def stop(self) -> None:
        self.plant.send(StopComparing("line-1", self.number))

    def counts(self) -> Counts:
        total = Counts()
        for one in self.plant.of(Compared):
            total = added(total, one.counts)
        return total

    def wait_for_counts(self, enough: Callable[[Counts], bool]) -> Counts:
        self.plant.wait_until(lambda: enough(self.counts()))
        return self.counts()

    def failure(self) -> ComparisonFailed:
        self.plant.wait_until(lambda: bool(self.plant.of(ComparisonFailed)))
        (failed,) = self.plant.of(ComparisonFailed)
        return failed


@pytest.fixture
def pair(new_dummies: NewDummies, runtime: DummyRuntime) -> Pair:
    return Pair(new_dummies(), runtime)


def test_pictures_of_an_earlier_comparison_go_where_none_are_kept(pair: Pair, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    picture = folder / "000000500-cam-1-7.jpg"
    picture.write_bytes(b"\xff\xd8")
    pair.run(keep_bytes=0, keep_dir=str(folder))
    wait_for(lambda: not picture.exists())


@pytest.fixture
def first_reading(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Return an event that is set once a comparison knows the memory from which growth counts."""
    known, really_look = threading.Event(), MemoryGrowth.trouble

    def look(growth: MemoryGrowth) -> tuple[CanaryReason, str] | None:
        found = really_look(growth)
        if growth._base_bytes is not None:
            known.set()
        return found

    monkeypatch.setattr("agent.inference.comparing.memory_growth._SETTLED_S", 0.1)
    monkeypatch.setattr(MemoryGrowth, "trouble", look)
    return known


def models(plant: PlantOfDummies) -> list[str]:
    return [one.model for one in plant.of(Detections)]


def test_a_shadow_answers_nothing_and_is_compared_frame_by_frame(pair: Pair) -> None:
    pair.run()
    for frame in range(10):
        assert pair.plant.detect().model == "stable:n@1"
        pair.wait_for_counts(lambda counts, done=frame + 1: counts.frames == done)  # type: ignore[misc] # a default binds
    counts = pair.counts()
    assert (counts.frames, counts.agree, counts.missing, counts.extra, counts.answered) == (10, 10, 0, 0, 0)
    assert (counts.stable_ms.count, counts.candidate_ms.count, counts.seen) == (10, 10, 10)
    assert counts.classes["cap"].agree == 10


def test_what_the_candidate_misses_finds_or_scores_is_counted_by_class(pair: Pair) -> None:
    pair.runtime.behaviours["candidate"].score = 0.0
    pair.run()
    pair.plant.detect()
    counts = pair.wait_for_counts(lambda counts: counts.frames == 1)
    assert (counts.missing, counts.extra, counts.classes["cap"].fewer) == (1, 0, 1)
    pair.runtime.behaviours["candidate"].score, pair.runtime.behaviours["stable"].score = 0.6, 0.8
    pair.plant.detect()
    counts = pair.wait_for_counts(lambda counts: counts.frames == 2)
    assert counts.agree == 1
    assert counts.score == pytest.approx(-0.2, abs=1e-3)


def test_each_compared_frame_is_inferred_once_more_by_both_moved_by_some_pixels(pair: Pair) -> None:
    for behaviour in pair.runtime.behaviours.values():
        behaviour.box = (10, 10, 40, 40)
    pair.run()
    for frame in range(3):
        pair.plant.detect()
        pair.wait_for_counts(lambda counts, done=frame + 1: counts.again == done)  # type: ignore[misc] # a default binds
    counts = pair.counts()
    # The dummies answer every picture alike, so their one object stays where the moved picture no longer has it.
    assert counts.stable_unsteady == counts.candidate_unsteady > 0
    assert counts.stable_unsteady_squares == pytest.approx(counts.unsteady_products)
    assert (counts.frames, counts.candidate_ms.count, counts.seen) == (3, 3, 3)


def test_beside_a_line_without_gaps_the_model_that_serves_infers_nothing_but_its_frames(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Slack, "wait", lambda _self, _needed_ns, _until, *, may_delay: Gap.FOUND if may_delay else Gap.TOO_SHORT
    )
    monkeypatch.setattr(line_comparison, "_UNDISTURBED_PERIODS", 0)
    pair.run()
    for frame in range(3):
        pair.plant.detect()
        pair.wait_for_counts(lambda counts, done=frame + 1: counts.frames == done)  # type: ignore[misc] # a default binds
    pair.stop()
    assert pair.counts().again == 0
    begun = pair.runtime.behaviours["stable"].answers_begun
    assert [begun.acquire(blocking=False) for _ in range(4)] == [True] * 3 + [False]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("shadow", ["idle", "normal", "idle"]),  # its frame, and both models' moved ones
        ("canary", ["normal"] * 3),  # because the candidate's next frame may wait for its own moved one
    ],
)
def test_in_a_gap_a_model_whose_frame_may_wait_for_it_keeps_its_priority(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, mode: CanaryMode, expected: list[str]
) -> None:
    priorities: list[str] = []

    def lowered(priority: str, *, may_stay: bool) -> AbstractContextManager[None]:
        del may_stay
        priorities.append(priority)
        return nullcontext()

    monkeypatch.setattr("agent.inference.scheduling.load_priority.lowered", lowered)
    for behaviour in pair.runtime.behaviours.values():
        behaviour.box = (10, 10, 40, 40)
    pair.run(mode)
    pair.plant.detect()
    pair.wait_for_counts(lambda counts: counts.again == 1)
    assert priorities == expected


def test_an_inference_that_may_delay_frames_says_what_it_needs(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    needed_ns: list[float] = []

    def wait(_self: Slack, needed: float, _until: int, *, may_delay: bool) -> Gap:
        if may_delay:
            needed_ns.append(needed)
        return Gap.FOUND if may_delay else Gap.TOO_SHORT

    monkeypatch.setattr(Slack, "wait", wait)
    pair.run("canary")
    for frame in range(2):
        pair.plant.detect()
        pair.wait_for_counts(lambda counts, done=frame + 1: counts.frames == done)  # type: ignore[misc] # a default binds
    assert needed_ns[-1] > 0, "else the gap would not be its own for so long"


@pytest.mark.parametrize("is_over", [True, False])
def test_a_gap_that_a_comparison_finds_as_it_ends_is_used_or_given_back(*, is_over: bool) -> None:
    class Ending:
        """A comparison that ends just after it was asked whether it has."""

        _parts = SimpleNamespace(slack=Slack())
        asked = iter([is_over, True])

        @property
        def _is_over(self) -> bool:
            return next(self.asked)

    ending: Any = Ending()
    is_used = LineComparison._finds_gap(ending, 60.0)
    slack = ending._parts.slack
    assert is_used is (slack.wait(0, slack.clock_ns()) is Gap.NONE)


def test_a_picture_that_cannot_be_moved_takes_no_gap(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    wait, spent = Slack.wait, Slack.spent

    def finds(slack: Slack, *args: Any, may_delay: bool = False) -> Gap:  # noqa: ANN401 - as those of `wait`
        found = wait(slack, *args, may_delay=may_delay)
        taken.append(found is Gap.FOUND)
        return found

    def spends(slack: Slack, *args: int) -> None:
        taken.append(-1)
        spent(slack, *args)

    def fails(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Slack, "wait", finds)
    monkeypatch.setattr(Slack, "spent", spends)
    monkeypatch.setattr(line_comparison, "moved", fails)
    pair.run()
    for frame in range(3):
        pair.plant.detect()
        pair.wait_for_counts(lambda counts, done=frame + 1: counts.frames == done)  # type: ignore[misc] # a default binds
    pair.stop()
    wait_for(lambda: sum(taken) == 0)
    assert not pair.plant.of(ComparisonFailed)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_canary_answers_its_share_in_order_under_its_own_name(pair: Pair, share: float) -> None:
    pair.run("canary", share)
    for _ in range(100):
        pair.plant.detect()
    answers = pair.plant.of(Detections)
    assert [one.frame for one in answers] == list(range(100))
    expected = ["candidate:n@1" if is_of_share(one.frame, share) else "stable:n@1" for one in answers]
    assert models(pair.plant) == expected
    assert f'"model":"{expected[-1]}"'.encode() in answers[-1].tail
    counts = pair.wait_for_counts(lambda counts: counts.seen == 100)
    assert counts.answered == sum(is_of_share(frame, share) for frame in range(100))


def test_the_share_holds_over_ten_thousand_frames_and_any_regular_part_of_them() -> None:
    for share in (0.01, 0.1, 1 / 3, 0.5):
        for start in (0, 4711):
            for stride in (1, 2, 3, 5, 10):
                taken = sum(is_of_share(start + stride * number, share) for number in range(10_000))
                assert taken / 10_000 == pytest.approx(share, abs=0.001)
    assert all(is_of_share(number, 1.0) for number in range(1000))


def test_cameras_of_a_line_share_the_choice(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    pair = Pair(new_dummies(lines={"cam-1": "line-1", "cam-2": "line-1"}), runtime)
    pair.run("canary", 0.3)
    for _ in range(30):
        assert pair.plant.detect("cam-1").model == pair.plant.detect("cam-2").model


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("no kernel image"), "inference_failed"),
        (ModelError("proof_failed", "the answer holds NaN"), "proof_failed"),
    ],
)
@pytest.mark.parametrize("mode", ["shadow", "canary"])
def test_a_candidate_that_fails_is_given_up_and_no_frame_is_lost(
    pair: Pair, mode: CanaryMode, error: Exception, reason: str
) -> None:
    pair.run(mode)
    pair.plant.detect()
    pair.runtime.behaviours["candidate"].answer_error = error
    assert pair.plant.detect().model == "stable:n@1", "the line's model answers the very frame"
    assert (pair.failure().reason, pair.failure().number) == (reason, pair.number)
    assert pair.plant.detect().model == "stable:n@1"
    assert [one.frame for one in pair.plant.of(Detections)] == [0, 1, 2]
    assert not pair.plant.of(InferenceFailed)


def _fail(pair: Pair) -> None:
    pair.runtime.behaviours["candidate"].answer_error = RuntimeError("no kernel image")


def _answer_nan(pair: Pair) -> None:
    pair.runtime.behaviours["candidate"].answer_error = ModelError("proof_failed", "the answer holds NaN")


def _hang(pair: Pair) -> None:
    pair.runtime.behaviours["candidate"].answer_may_end.clear()


def _grow(pair: Pair) -> None:
    pair.runtime.held_bytes += 80 * MIB


@pytest.mark.parametrize(
    ("go_wrong", "reason"),
    [(_fail, "inference_failed"), (_answer_nan, "proof_failed"), (_hang, "hung"), (_grow, "memory")],
)
@pytest.mark.parametrize("mode", ["shadow", "canary"])
def test_several_cameras_lose_no_frame_by_a_candidate_that_goes_wrong(  # noqa: PLR0913, PLR0917 - fixtures
    new_dummies: NewDummies,
    runtime: DummyRuntime,
    feed: Callable[..., Feeder],
    monkeypatch: pytest.MonkeyPatch,
    first_reading: threading.Event,
    mode: CanaryMode,
    go_wrong: Callable[[Pair], None],
    reason: str,
) -> None:
    monkeypatch.setattr(line_comparison, "HUNG_S", 0.5)
    monkeypatch.setattr(line_comparison, "HUNG_IN_SLACK_S", 0.5)
    # because four cameras may leave none on a busy machine
    monkeypatch.setattr(Slack, "wait", lambda *_, **__: Gap.FOUND)
    cameras = [f"cam-{number}" for number in range(1, 5)]
    pair = Pair(new_dummies(lines=dict.fromkeys(cameras, "line-1")), runtime)
    pair.run(mode)
    feeders = {camera: feed(pair.plant.writers[camera], pause_s=0.05) for camera in cameras}
    pair.wait_for_counts(lambda counts: counts.frames > 5)
    assert first_reading.wait(DEADLINE_S)
    go_wrong(pair)
    assert pair.failure().reason == reason
    offered = {camera: feeders[camera].offered for camera in cameras}
    pair.plant.wait_until(lambda: all(pair.plant.frames(camera)[-1] > offered[camera] + 5 for camera in cameras))
    for camera, feeder in feeders.items():
        feeder.stop()
        pair.plant.wait_until(lambda one=camera, of=feeder.offered: len(pair.plant.frames(one)) == of)  # type: ignore[misc] # defaults bind
        assert pair.plant.frames(camera) == list(range(feeder.offered)), "each frame has its answer, in order"
        since = [one.model for one in pair.plant.of(Detections) if one.stream == camera][offered[camera] + 3 :]
        assert set(since) == {"stable:n@1"}
    assert not pair.plant.of(InferenceFailed)
    assert pair.counts().late <= len(cameras), "at most one frame of each camera is late"


@pytest.mark.parametrize("load", [0.1, 0.5, 0.7])
@pytest.mark.parametrize("streams", [1, 2, 3, 4, 8, 16])
def test_a_deadline_leaves_all_streams_their_frames(streams: int, load: float) -> None:
    period_s, threads = 0.1, 2
    usual_s = load * period_s / streams
    found = deadline_s(usual_s, period_s, streams - threads)
    last_taken_s = found + max(0, streams - threads) * usual_s
    assert last_taken_s <= (period_s if streams > threads else 1.5 * period_s)
    assert found >= 2 * usual_s


def test_a_deadline_without_a_pace_is_four_inferences() -> None:
    assert deadline_s(0.2, 0.0, 3) == pytest.approx(0.8)
    assert deadline_s(0.001, 0.0, 0) == pytest.approx(0.05)


def test_a_candidate_that_hangs_delays_one_frame_and_loses_none(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_comparison, "HUNG_S", 0.5)
    pair.run("canary")
    assert pair.plant.detect().model == "candidate:n@1"
    hangs = pair.runtime.behaviours["candidate"]
    hangs.answer_may_end.clear()
    assert [pair.plant.detect().model for _ in range(5)] == ["stable:n@1"] * 5
    assert pair.wait_for_counts(lambda counts: counts.late > 0).late == 1
    assert pair.failure().reason == "hung"
    row = pair.plant.of(CacheState)[-1].models
    assert {one.model for one in row} >= {"candidate:n@1"}, "its bytes stay charged while its thread hangs"
    hangs.answer_may_end.set()
    assert pair.plant.switch(pair.candidate).report.residency == "resident"


def test_a_late_answer_is_counted_and_the_next_frames_are_the_candidates_again(pair: Pair) -> None:
    pair.run("canary")
    slow = pair.runtime.behaviours["candidate"]
    slow.answer_may_end.clear()
    assert pair.plant.detect().model == "stable:n@1"
    slow.answer_may_end.set()
    wait_for(lambda: pair.plant.detect().model == "candidate:n@1")
    assert not pair.plant.of(ComparisonFailed)


def test_a_shadow_that_hangs_is_given_up(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_comparison, "HUNG_IN_SLACK_S", 0.5)
    pair.run()
    pair.runtime.behaviours["candidate"].answer_may_end.clear()
    assert [pair.plant.detect().model for _ in range(20)] == ["stable:n@1"] * 20
    assert pair.failure().reason == "hung"
    assert pair.counts().skipped > 0


def test_a_candidate_that_grows_is_given_up(pair: Pair, first_reading: threading.Event) -> None:
    pair.run("canary", memory_bytes=10 * MIB)
    wait_for(lambda: (pair.plant.detect(), first_reading.is_set())[1])
    assert not pair.plant.of(ComparisonFailed)
    pair.runtime.held_bytes += 11 * MIB
    failed = pair.failure()
    assert failed.reason == "memory"
    assert "11 MiB" in failed.detail
    assert pair.plant.detect().model == "stable:n@1"


def test_from_its_stop_on_every_frame_is_the_lines_and_the_candidate_may_go(pair: Pair) -> None:
    pair.run("canary")
    assert pair.plant.detect().model == "candidate:n@1"
    pair.plant.wait_for_ledger({"stable:n@1": "active", "candidate:n@1": "pinned"})
    pair.stop()
    assert pair.plant.detect().model == "stable:n@1"
    pair.plant.wait_for_ledger({"stable:n@1": "active", "candidate:n@1": "resident"})


def test_an_older_stop_ends_nothing(pair: Pair) -> None:
    pair.run("canary")
    pair.run("canary")
    pair.plant.send(StopComparing("line-1", 1))
    assert pair.plant.detect().model == "candidate:n@1"


def test_after_a_promotion_the_candidate_serves_with_no_frame_lost(pair: Pair) -> None:
    pair.run("canary", 0.5)
    for _ in range(10):
        pair.plant.detect()
    pair.stop()
    report = pair.plant.switch(pair.candidate).report
    assert (report.residency, report.order, report.frames_lost) == ("resident", "make-before-break", 0)
    assert pair.plant.detect().model == "candidate:n@1"
    pair.plant.wait_for_ledger({"stable:n@1": "resident", "candidate:n@1": "active"})


def test_a_candidate_that_is_not_loaded_is_refused(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    pair = Pair(new_dummies(), runtime)
    pair.candidate = runtime.make("never-loaded")
    pair.compare()
    assert pair.failure().reason == "no_memory", "which it would have been loaded into"


@pytest.mark.parametrize("state", ["releasing", "loading"])
def test_a_candidate_that_is_unloaded_or_loads_again_is_refused_for_its_memory(pair: Pair, state: str) -> None:
    cache = pair.plant.worker._cache
    entry = cache.resident(pair.candidate)
    assert entry is not None
    cache.unreserve(pair.candidate, "line-1/candidate")
    assert cache.begin_release(entry) is not None
    if state == "loading":
        cache.returned(entry, entry.bytes)
        assert cache.charge(pair.candidate, MIB) is not None
    pair.compare()
    assert pair.failure().reason == "no_memory", "its answers were never found wrong"


def test_a_candidate_whose_answers_were_found_wrong_is_refused_for_them(pair: Pair) -> None:
    pair.plant.worker._cache.condemn(pair.candidate, "nonsense")
    pair.compare()
    assert pair.failure().reason == "load_failed"


def test_models_that_cannot_be_compared_are_refused(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    pair = Pair(new_dummies(), runtime)
    other = runtime.make("other")
    pair.plant.prepare(other, is_candidate=True)
    pair.candidate = other
    pair.compare()
    failed = pair.failure()
    assert failed.reason == "implausible"
    assert "no class" in failed.detail
    pair.plant.wait_for_ledger({"stable:n@1": "active", "candidate:n@1": "reserved", "other:n@1": "resident"})


def test_an_unknown_line_is_refused(pair: Pair) -> None:
    pair.plant.send(Compare("line-9", 7, pair.candidate, "shadow", 1.0, MIB))
    assert pair.failure().reason == "unknown_line"


TWO_LINES = {"cam-1": "line-1", "cam-2": "line-2"}


@pytest.fixture
def crowded(new_dummies: NewDummies, runtime: DummyRuntime) -> Pair:
    """Start a pair beside line-2 with a model of its own, in 200 MiB of which 20 are free."""
    pair = Pair(new_dummies(lines=TWO_LINES, budget_mib=200), runtime)
    pair.plant.switch(runtime.make("other"), "line-2")
    return pair


@pytest.mark.parametrize("mode", ["shadow", "canary"])
def test_a_candidate_gives_way_to_another_lines_changeover(crowded: Pair, mode: CanaryMode) -> None:
    crowded.run(mode)
    crowded.plant.detect("cam-1")
    large = crowded.runtime.make("large", 130)
    crowded.plant.switch(large, "line-2")
    failed = crowded.failure()
    assert (failed.line, failed.number, failed.reason) == ("line-1", crowded.number, "no_memory")
    assert "large:n@1" in failed.detail
    assert crowded.plant.detect("cam-1").model == "stable:n@1"
    assert crowded.plant.detect("cam-2").model == "large:n@1"
    crowded.plant.wait_for_ledger({"stable:n@1": "active", "large:n@1": "active"})


def test_a_candidate_that_is_reserved_for_a_comparison_gives_way_too(crowded: Pair) -> None:
    rows = {one.model: one.reserved_for for one in crowded.plant.of(CacheState)[-1].models}
    assert rows["candidate:n@1"] == "line-1"
    crowded.plant.switch(crowded.runtime.make("large", 130), "line-2")
    crowded.plant.wait_for_ledger({"stable:n@1": "active", "large:n@1": "active"})
    crowded.compare()
    assert crowded.failure().reason == "no_memory"
    assert crowded.plant.detect("cam-1").model == "stable:n@1"


def test_a_candidate_that_a_line_announced_as_well_stays(crowded: Pair) -> None:
    crowded.plant.prepare(crowded.candidate)
    assert crowded.plant.refusal(crowded.runtime.make("large", 130), "line-2").reason == "no_memory"
    crowded.run()
    crowded.stop()
    crowded.plant.wait_until(lambda: crowded.plant.resident()["candidate:n@1"] == "reserved")


def test_a_candidate_stays_where_the_lines_own_model_makes_room(crowded: Pair) -> None:
    crowded.run("canary")
    assert crowded.plant.switch(crowded.runtime.make("fits", 75), "line-2").report.order == "break-before-make"
    assert crowded.plant.detect("cam-1").model == "candidate:n@1"
    assert not crowded.plant.of(ComparisonFailed)


def test_a_candidate_stays_where_its_room_would_not_do_either(crowded: Pair) -> None:
    crowded.run("canary")
    assert crowded.plant.refusal(crowded.runtime.make("huge", 150), "line-2").reason == "no_memory"
    assert crowded.plant.detect("cam-1").model == "candidate:n@1"
    assert not crowded.plant.of(ComparisonFailed)


def test_a_candidate_gives_way_to_no_announcement(crowded: Pair) -> None:
    crowded.run("canary")
    refused = crowded.plant.outcome(crowded.plant.announce(crowded.runtime.make("large", 75), "line-2"))
    assert isinstance(refused, PrepareFailed)
    assert crowded.plant.detect("cam-1").model == "candidate:n@1"
    assert not crowded.plant.of(ComparisonFailed)


def test_a_candidate_gives_way_to_a_model_that_outgrew_its_prediction(crowded: Pair) -> None:
    crowded.run("canary")
    large = crowded.runtime.make("large", 75)
    crowded.runtime.behaviours["large"].grows_bytes = 130 * MIB
    crowded.plant.switch(large, "line-2")
    assert crowded.failure().reason == "no_memory"
    assert crowded.plant.detect("cam-1").model == "stable:n@1"
    crowded.plant.wait_for_ledger({"stable:n@1": "active", "large:n@1": "active"})


def test_no_more_candidates_give_way_than_are_needed(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    other, small = runtime.make("other"), runtime.make("small", 30)
    pair = Pair(new_dummies(lines=TWO_LINES, budget_mib=230), runtime)
    pair.plant.switch(other, "line-2")
    pair.plant.prepare(small, "line-2", is_candidate=True)
    pair.run("canary")
    pair.plant.send(Compare("line-2", 50, small, "canary", 1.0, 64 * MIB))
    pair.plant.wait_until(lambda: any(one.number == 50 for one in pair.plant.of(ComparisonBegan)))
    pair.plant.switch(runtime.make("large", 130), "line-2")
    assert pair.failure().line == "line-1"
    pair.plant.wait_for_ledger({"stable:n@1": "active", "large:n@1": "active", "small:n@1": "pinned"})


def test_a_candidate_gives_way_to_what_is_guaranteed(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    pair = Pair(new_dummies(lines=TWO_LINES, budget_mib=300, guaranteed_mib=200), runtime)
    pair.plant.switch(runtime.make("other"), "line-2")
    pair.run("canary")
    pair.plant.switch(runtime.make("large", 90), "line-2")
    assert pair.failure().reason == "no_memory"
    assert pair.plant.detect("cam-2").model == "large:n@1"
