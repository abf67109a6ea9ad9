"""Records of what served a line, and the reports that are made of them."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.plant_bench import BASE, Bench

from agent.app.outbound.records import Records, read_served
from agent.control.actions import Action, RecordComparison
from agent.control.comparisons.comparison import Comparison, Stage
from agent.messages.canary import KEPT_OF, ClassCounts, Counts, Histogram, KeptFrame
from agent.messages.errors import MistakeError
from agent.messages.events import Received
from agent.messages.payloads import DetectedObject
from agent.messages.records import MOST_RECORDS, ComparisonRecord, Served
from agent.report import comparison_report
from agent.report.page import page
from agent.report.served_command import readable, records_of
from agent.settings import Settings

AT_S = 1_767_225_600.0


class Device:
    """A plant's state, and the records that are kept of it in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bench = Bench()
        self.unix_s = AT_S
        self.records = self.begin()

    def begin(self) -> Records:
        def write(path: Path, data: bytes) -> None:
            path.write_bytes(data)

        return Records(self.bench.state, self.folder, write, lambda: self.unix_s)

    def tick(self, seconds: float = 5.0) -> None:
        self.unix_s += seconds
        self.records.tick(self.unix_s)

    def shadow(self, candidate: str) -> None:
        """Ask for a shadow, and record what that ends."""
        topic = f"{BASE}/line/line-1/canary/set"
        self.record(self.bench.give(Received(topic, msgspec.json.encode({"candidate": candidate, "mode": "shadow"}))))

    def record(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, RecordComparison):
                self.records.compared(action.line, action.comparison)

    def served(self) -> list[Served]:
        return read_served(self.folder / "served" / "line-1.json")

    @property
    def settings(self) -> Settings:
        raw: dict[str, Any] = {
            "device": {"state_dir": self.folder},
            "stream": [{"id": "cam-1", "line": "line-1", "source": "/dev/video0"}],
            "line": {"line-1": {"default": "cap-check"}},
        }
        return Settings(**raw)


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def test_each_model_that_serves_is_recorded_with_its_cause(device: Device) -> None:
    device.bench.start()
    device.tick()
    device.bench.product("17")
    device.bench.swap()
    device.tick(60.0)
    first, second = device.served()
    assert (first.model, first.cause and first.cause.rule) == ("cap-check:n@3", "default")
    assert (second.model, second.before, second.cause and second.cause.value) == (
        "label-check:n@1",
        "cap-check:n@3",
        "17",
    )
    texts = list(readable(device.served(), device.unix_s + 3660))
    assert texts[0].endswith("cap-check:n@3  for 1 min 0 s  by default")
    assert texts[1].endswith("label-check:n@1  until now, 1 h 1 min  product 17  by product 17")


def test_a_change_that_failed_is_recorded_with_its_reason(device: Device) -> None:
    device.bench.start()
    device.bench.product("17")
    for action in device.bench.fail("hash_mismatch"):
        payload = getattr(action, "payload", None)
        if payload is not None and getattr(payload, "result", None) == "failed":
            device.records.switched(payload)
    device.tick()
    failed = next(one for one in device.served() if one.what == "change")
    assert (failed.model, failed.result, failed.reason) == ("label-check:n@1", "failed", "hash_mismatch")
    assert any("hash_mismatch" in text for text in readable(device.served(), device.unix_s))


def test_a_comparison_that_another_one_replaces_is_recorded(device: Device) -> None:
    device.bench.start()
    device.tick()
    device.shadow("cap-check:s@3")
    device.shadow("label-check:n@1")
    device.tick()
    ended = device.served()[-1]
    assert (ended.what, ended.model, ended.result) == ("comparison", "cap-check:s@3", "stopped")
    assert "another comparison was asked for" in (ended.detail or "")
    kept = msgspec.json.decode((device.folder / "comparisons" / "line-1.json").read_bytes(), type=ComparisonRecord)
    assert kept.canary.candidate == "label-check:n@1"


def test_the_end_of_a_comparison_is_recorded_before_the_model_that_serves_next(device: Device) -> None:
    device.bench.start()
    device.tick()
    device.shadow("label-check:n@1")
    device.record(device.bench.product("17"))
    device.bench.swap()
    device.tick()
    assert [(one.what, one.model) for one in device.served()[1:]] == [
        ("comparison", "label-check:n@1"),
        ("serves", "label-check:n@1"),
    ]


def test_after_a_restart_no_model_serves_until_one_does(device: Device) -> None:
    device.bench.start()
    device.tick()
    device.bench = Bench()
    device.records = device.begin()
    device.tick()
    assert [one.model for one in device.served()] == ["cap-check:n@3", None]


def test_the_oldest_records_go(device: Device) -> None:
    device.bench.start()
    for _ in range(MOST_RECORDS):
        for product in ("17", "bottle-500"):
            device.bench.product(product)
            device.bench.swap()
            device.records.tick(device.unix_s)
    device.records.flush()
    assert len(device.served()) == MOST_RECORDS


def test_a_damaged_file_is_begun_anew_and_the_command_says_so(device: Device) -> None:
    (device.folder / "served").mkdir()
    (device.folder / "served" / "line-1.json").write_bytes(b"{")
    with pytest.raises(MistakeError, match="found no records"):
        records_of(device.settings, "line-1")
    device.bench.start()
    device.tick()
    assert len(device.served()) == 1


def test_an_unknown_line_is_a_mistake(device: Device) -> None:
    with pytest.raises(MistakeError, match="line-9"):
        records_of(device.settings, "line-9")
    with pytest.raises(MistakeError, match="no comparison has run"):
        comparison_report.report_of(device.settings, "line-1")


@pytest.mark.parametrize("at", ["2026-13-01T00:00:00.000Z", "2026-01-01T00:00:60.000Z", "0000-01-01T00:00:00.000Z"])
def test_a_record_of_no_time_is_a_mistake(device: Device, at: str) -> None:
    (device.folder / "served").mkdir()
    (device.folder / "served" / "line-1.json").write_bytes(msgspec.json.encode([Served(at, "serves", "a:n@1")]))
    with pytest.raises(MistakeError, match="found no records"):
        records_of(device.settings, "line-1")


@pytest.mark.parametrize("buckets", [{99_999_999: 300}, {-1: 3}, {80: 0}, {80: -3}, {80: 1, 81: -1}])
def test_latencies_that_cannot_be_are_a_mistake(device: Device, buckets: dict[int, int]) -> None:
    record = compared(device).record
    counts = msgspec.structs.replace(record.counts, stable_ms=Histogram(buckets))
    path = device.folder / "comparisons" / "line-1.json"
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(record, counts=counts)))
    with pytest.raises(MistakeError, match="found no comparison"):
        comparison_report.report_of(device.settings, "line-1")


def compared(device: Device) -> comparison_report.Report:
    """Record a comparison, and return its report."""
    device.bench.start()
    counts = Counts(
        frames=400,
        objects=400,
        agree=780,
        missing=15,
        extra=5,
        scored=400,
        score=-4.0,
        score_squares=1.0,
        seen=4000,
        classes={"<cap>": ClassCounts(795, 785, 780, 400, 15, 5, -4.0, 700.0)},
        stable_ms=Histogram({90: 3900, 100: 100}),
        candidate_ms=Histogram({92: 400}),
    )
    one = Comparison("cap-check:n@4", stable="cap-check:n@3", stage=Stage.RUNNING, since="2026-01-01T00:00:00.000Z")
    one.counts = counts
    device.bench.state.lines["line-1"].comparison = one
    device.tick()
    return comparison_report.report_of(device.settings, "line-1")


def test_a_report_gives_figures_with_their_intervals(device: Device) -> None:
    report = compared(device)
    assert report.agreement == 0.975
    low, high = report.agreement_interval or (0.0, 0.0)
    assert 0.93 < low < 0.975 < high < 1
    assert report.score_delta == -0.01
    assert report.classes["<cap>"].missing == 15
    assert report.latency_ms["stable"]["p50"] == pytest.approx(18.3, abs=0.1)
    text = "\n".join(comparison_report.readable(report))
    for words in ("97.50 %", "400 of 2000 compared", "in slack", "<cap>", "-0.0100"):
        assert words in text
    assert comparison_report.as_json(report)["record"]["canary"]["frames"] == 400


def keep(report: comparison_report.Report, frame: KeptFrame, of: str = "cap-check:n@4") -> None:
    """Write a frame as a comparison of the candidate `of` keeps it."""
    folder = Path(report.folder)
    folder.mkdir(exist_ok=True)
    (folder / KEPT_OF).write_text(of)
    name = f"000000500-{frame.stream}-{frame.frame}"
    (folder / f"{name}.json").write_bytes(msgspec.json.encode(frame))
    (folder / f"{name}.jpg").write_bytes(b"\xff\xd8")


def frame_of(number: int = 7, *stable: DetectedObject) -> KeptFrame:
    return KeptFrame("cam-1", number, "2026-01-01T00:00:00.000Z", 64, 48, list(stable), [])


@pytest.mark.parametrize("of", [b"cap-check:n@2", b"", b"\xff\xfe", None])
def test_pictures_of_another_comparison_are_not_shown(device: Device, of: bytes | None) -> None:
    keep(compared(device), frame_of())
    note = device.folder / "comparisons" / "line-1" / KEPT_OF
    if of is None:
        note.unlink()
    else:
        note.write_bytes(of)
    report = comparison_report.report_of(device.settings, "line-1")
    assert report.frames == []
    assert "pictures" not in "\n".join(comparison_report.readable(report))
    assert "data:image/jpeg" not in page(report)


def test_the_page_needs_nothing_else_and_escapes_what_models_say(device: Device) -> None:
    report = compared(device)
    keep(report, frame_of(7, DetectedObject(label="<script>", class_=0, score=0.5, box=(1, 2, 3, 4))))
    html = page(comparison_report.report_of(device.settings, "line-1"))
    assert "<script>" not in html
    assert "&lt;script&gt; 0.50" in html
    assert "data:image/jpeg;base64,/9g=" in html
    assert html.count("<polyline") == 2
    assert "http" not in html.replace("http-equiv", "")


HOSTILE = ("a\nresult     promoted", "\u202eevil", "\x1b]0;evil\x07\x1b[2J", "\u2028b", "\u2067c", "\x9b2J")
"""Names of classes that would be lines, turn a row round, or be commands to a terminal."""


def test_what_models_call_their_classes_is_no_line_and_no_command(device: Device) -> None:
    report = compared(device)
    counts = ClassCounts(795, 785, 780, 400, 15, 5, -4.0, 700.0)
    one = device.bench.state.lines["line-1"].comparison
    assert one is not None
    one.counts = msgspec.structs.replace(one.counts, classes=dict.fromkeys(HOSTILE, counts))
    one.stage, one.result, one.end_detail, one.end_reason = Stage.ENDED, "rolled_back", "".join(HOSTILE), "class_rates"
    device.records.compared("line-1", one)
    boxes = [DetectedObject(label=label, class_=0, score=0.5, box=(1, 2, 3, 4)) for label in HOSTILE]
    keep(report, KeptFrame(HOSTILE[1], 7, "2026-01-01T00:00:00.000Z", 64, 48, boxes, []))
    report = comparison_report.report_of(device.settings, "line-1")
    assert (report.record.canary.result, set(report.classes), len(report.frames)) == ("rolled_back", set(HOSTILE), 1)
    texts = list(comparison_report.readable(report))
    assert all(text.isprintable() for text in texts)
    assert [text for text in texts if text.startswith("result")] == [texts[1]]
    assert page(report).replace("\n", "").isprintable()


def test_a_detail_is_no_line_and_no_command_in_the_log() -> None:
    at = "2026-01-01T00:00:00.000Z"
    records = [Served(at, "serves", "a:n@1"), Served(at, "change", "a:n@2", result="failed", detail="".join(HOSTILE))]
    texts = list(readable(records, AT_S))
    assert len(texts) == 2
    assert all(text.isprintable() for text in texts)


def test_the_page_draws_outlines_turned_boxes_and_keypoints(device: Device) -> None:
    report = compared(device)
    mask = DetectedObject("cap", 0, 0.5, (1, 2, 9, 8), polygons=[[1, 2, 9, 2, 9, 8], [3, 3, 4, 3, 4, 4]])
    turned = DetectedObject("cap", 0, 0.5, (1, 2, 9, 8), angle=0.1, corners=((1, 2), (9, 2), (9, 8), (1, 8)))
    pose = DetectedObject("cap", 0, 0.5, (1, 2, 9, 8), keypoints=[(5, 6, 0.9), (7, 7, 0.1)])
    frame = KeptFrame("cam-1", 7, "2026-01-01T00:00:00.000Z", 64, 48, [mask, turned], [pose])
    keep(report, frame)
    html = page(comparison_report.report_of(device.settings, "line-1"))
    drawn = html.replace(".0", "")
    for points in ("1,2 9,2 9,8", "3,3 4,3 4,4", "1,2 9,2 9,8 1,8"):
        assert f'points="{points}"' in drawn
    assert html.count("<circle") == 1


@pytest.mark.parametrize(
    ("box", "place"),
    [
        ((100, 2, 200, 80), (100, 16)),  # at the top edge: inside the box
        ((100, -9, 200, 80), (100, 14)),
        ((100, 100, 200, 180), (100, 97)),
        ((600, 100, 638, 180), (568, 97)),  # at the right edge
        ((-5, 100, 60, 180), (0, 97)),
    ],
)
def test_a_label_lies_within_the_picture(
    device: Device, box: tuple[float, float, float, float], place: tuple[int, int]
) -> None:
    frame = KeptFrame("cam-1", 7, "2026-01-01T00:00:00.000Z", 640, 480, [DetectedObject("seal", 0, 0.5, box)], [])
    keep(compared(device), frame)
    html = page(comparison_report.report_of(device.settings, "line-1")).replace(".0", "")
    assert f'<text x="{place[0]}" y="{place[1]}" font-size="14" fill="#1f77b4">seal 0.50</text>' in html


@pytest.mark.parametrize(
    ("suffix", "data"),
    [(".json", b"{"), (".json", b"\xff"), (".jpg", b""), (".jpg", b"no picture"), (".jpg", None), (".json", None)],
)
def test_a_picture_that_cannot_be_read_is_not_counted(device: Device, suffix: str, data: bytes | None) -> None:
    report = compared(device)
    keep(report, frame_of(7))
    keep(report, frame_of(8))
    damaged = Path(report.folder) / f"000000500-cam-1-8{suffix}"
    if data is None:
        damaged.unlink()
    else:
        damaged.write_bytes(data)
    report = comparison_report.report_of(device.settings, "line-1")
    assert report.frames == ["000000500-cam-1-7"]
    assert f"pictures   1 most different frames in {report.folder}" in "\n".join(comparison_report.readable(report))


def test_a_page_without_a_readable_picture_has_no_heading_for_them(device: Device) -> None:
    report = compared(device)
    keep(report, frame_of())
    (Path(report.folder) / "000000500-cam-1-7.jpg").unlink()
    assert "most different" not in page(comparison_report.report_of(device.settings, "line-1"))
