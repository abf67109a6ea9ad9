"""The report of a line's running or last comparison, as text and as JSON."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from agent.control.canary.telling import agreement
from agent.control.comparisons.count_checks import oddity_of
from agent.control.comparisons.statistics import mean_interval, wilson
from agent.messages.canary import COMPARISONS, KEPT_OF, ClassCounts, Counts, Histogram, KeptFrame
from agent.messages.errors import MistakeError
from agent.messages.records import ComparisonRecord
from agent.messages.texts.printable import printable
from agent.settings import Settings

SHARES: Final = (0.5, 0.9, 0.99, 0.999)
"""Percentiles of the latencies that a report gives, as shares."""
_JPEG: Final = b"\xff\xd8"
"""First bytes of every JPEG."""


class ReportClass(msgspec.Struct, frozen=True):
    """One class of a report; intervals have 99 % confidence, with frames as the sample."""

    stable: int
    candidate: int
    agree: int
    missing: int
    extra: int
    agreement: float | None
    agreement_interval: tuple[float, float] | None
    shift: float | None
    """Share of the frames with more of the class less that with fewer."""
    score_delta: float | None
    mean_overlap: float | None


class Report(msgspec.Struct, frozen=True):
    """A comparison with its intervals, classes and latency curves."""

    record: ComparisonRecord
    agreement: float | None
    agreement_interval: tuple[float, float] | None
    score_delta: float | None
    score_interval: tuple[float, float] | None
    classes: dict[str, ReportClass]
    latency_ms: dict[str, dict[str, float | None]]
    """Percentiles by model, such as `p99`."""
    frames: list[str]
    """Names of the kept frames, the most different first."""
    folder: str


def line_of(settings: Settings, line: str | None) -> str:
    """Return the named line, or else the only one with a comparison. Raises MistakeError."""
    if line is not None:
        if line not in settings.line:
            raise MistakeError(f"no line {line!r}; there are {', '.join(settings.line) or 'none'}")
        return line
    found = [one for one in settings.line if _file(settings, one).exists()]
    if len(found) != 1:
        raise MistakeError(f"say which line: {', '.join(found or settings.line)}")
    return found[0]


def report_of(settings: Settings, line: str) -> Report:
    """Read the record of a line's comparison, and compute its figures. Raises MistakeError where there is none."""
    path = _file(settings, line)
    try:
        record = msgspec.json.decode(path.read_bytes(), type=ComparisonRecord)
    except FileNotFoundError:
        raise MistakeError(f"no comparison has run on {line}: see docs/canary.md") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MistakeError(f"{path}: found no comparison of this version ({error})") from error
    if odd := oddity_of(record.counts):
        raise MistakeError(f"{path}: found no comparison of this version ({odd} that cannot be)")
    counts, folder = record.counts, _folder(settings, line)
    share, interval = agreement(counts)
    scored = counts.scored
    bounds = mean_interval(counts.score, counts.score_squares, scored)
    return Report(
        record=record,
        agreement=share,
        agreement_interval=interval,
        score_delta=round(counts.score / scored, 5) if scored else None,
        score_interval=(round(bounds[0], 5), round(bounds[1], 5)) if scored > 1 else None,
        classes={label: _class(one) for label, one in _by_count(counts)},
        latency_ms={"stable": _percentiles(counts.stable_ms), "candidate": _percentiles(counts.candidate_ms)},
        frames=_kept(folder, record.canary.candidate),
        folder=str(folder),
    )


def _kept(folder: Path, candidate: str) -> list[str]:
    """Return the names of the readable frames that a comparison of the candidate kept, the most different first."""
    try:
        is_its = (folder / KEPT_OF).read_bytes() == candidate.encode()
    except OSError:
        return []
    names = sorted((file.stem for file in folder.glob("*.json")), reverse=True) if is_its else []
    return [name for name in names if _read(folder, name) is not None]


def kept_frame(report: Report, name: str) -> tuple[KeptFrame, bytes] | None:
    """Return a kept frame and its JPEG; None where it is not there any more."""
    return _read(Path(report.folder), name)


def _read(folder: Path, name: str) -> tuple[KeptFrame, bytes] | None:
    path = folder / f"{name}.json"
    try:
        frame, picture = msgspec.json.decode(path.read_bytes(), type=KeptFrame), path.with_suffix(".jpg").read_bytes()
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return (frame, picture) if picture.startswith(_JPEG) else None


def readable(report: Report) -> Iterator[str]:
    """Return the report as lines of text, without control characters."""
    return map(printable, _lines(report))


def _lines(report: Report) -> Iterator[str]:
    one, counts = report.record.canary, report.record.counts
    against = f"{one.candidate} against {one.stable or 'what serves'}"
    yield f"{one.line}: {against} ({one.mode}, {one.share:.1%} of the frames)"
    reason = f": {one.reason}: {one.detail}" if one.reason else ""
    yield f"result     {one.result}{reason}"
    yield f"time       from {one.since}" + (f" to {one.ended_at}" if one.ended_at else f", {one.stage}")
    yield (
        f"frames     {one.frames} of {one.wanted_frames} compared, {one.skipped} skipped; "
        f"{one.answered} of {one.seen} answered by the candidate, {one.late} too late"
    )
    yield f"agreement  {_interval(report.agreement, report.agreement_interval, 100, '%')}"
    alone = f"{one.missing} missing, {one.extra} extra, {counts.borderline} near the threshold"
    yield f"           {counts.agree} objects of both, {alone}"
    yield f"scores     {_interval(report.score_delta, report.score_interval, 1, '')}, candidate less stable"
    if counts.again:
        stable, candidate = counts.stable_unsteady / counts.again, counts.candidate_unsteady / counts.again
        lost = f"stable {stable:.2%}, candidate {candidate:.2%} of overlap"
        yield f"unsteady   {lost} lost in {counts.again} frames moved by some pixels"
    for model, latencies in report.latency_ms.items():
        figures = ", ".join(f"{name} {value:.1f}" for name, value in latencies.items() if value is not None)
        yield f"latency    {model}: {figures or 'none yet'}{' ms' if figures else ''}"
    if one.mode == "shadow":
        yield "           the candidate's were measured in slack, at a lower priority"
    yield from _table(report)
    if report.frames:
        yield f"pictures   {len(report.frames)} most different frames in {report.folder}; --html shows them"


def _table(report: Report) -> Iterator[str]:
    if not report.classes:
        return
    counted = f"{'stable':>8}{'cand.':>8}{'missing':>9}{'extra':>7}"
    yield f"{'class':<20}{counted}{'shift':>8}{'score':>9}{'overlap':>9}  agreement"
    for label, one in report.classes.items():
        shift = f"{one.shift:+.1%}" if one.shift is not None else "-"
        score = f"{one.score_delta:+.4f}" if one.score_delta is not None else "-"
        overlap = f"{one.mean_overlap:.3f}" if one.mean_overlap is not None else "-"
        agree = _interval(one.agreement, one.agreement_interval, 100, "%")
        counts = f"{one.stable:>8}{one.candidate:>8}{one.missing:>9}{one.extra:>7}"
        yield f"{label[:19]:<20}{counts}{shift:>8}{score:>9}{overlap:>9}  {agree}"


def _interval(value: float | None, interval: tuple[float, float] | None, factor: float, unit: str) -> str:
    if value is None:
        return "none yet"
    decimals = 2 if factor > 1 else 4
    told = f"{value * factor:.{decimals}f}{' ' + unit if unit else ''}"
    if interval is None:
        return told
    return f"{told} (99 % interval {interval[0] * factor:.{decimals}f} to {interval[1] * factor:.{decimals}f})"


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as JSON's types."""
    found: dict[str, Any] = msgspec.to_builtins(report)
    return found


def _class(one: ClassCounts) -> ReportClass:
    objects = one.stable + one.candidate - one.agree
    share = one.agree / objects if objects else None
    interval = wilson(share * one.frames, one.frames) if share is not None else None
    return ReportClass(
        stable=one.stable,
        candidate=one.candidate,
        agree=one.agree,
        missing=one.stable - one.agree,
        extra=one.candidate - one.agree,
        agreement=share,
        agreement_interval=interval,
        shift=(one.more - one.fewer) / one.frames if one.frames else None,
        score_delta=one.score / one.agree if one.agree else None,
        mean_overlap=one.overlap / one.agree if one.agree else None,
    )


def _by_count(counts: Counts) -> list[tuple[str, ClassCounts]]:
    return sorted(counts.classes.items(), key=lambda item: -(item[1].stable + item[1].candidate))


def _percentiles(histogram: Histogram) -> dict[str, float | None]:
    return {f"p{share * 100:g}": histogram.percentile(share) for share in SHARES}


def _file(settings: Settings, line: str) -> Path:
    return settings.device.state_dir / COMPARISONS / f"{line}.json"


def _folder(settings: Settings, line: str) -> Path:
    return settings.device.state_dir / COMPARISONS / line
