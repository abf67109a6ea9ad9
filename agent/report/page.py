"""The report of a comparison as one HTML page that needs nothing else, to be read, printed and signed."""

import base64
from collections.abc import Iterator
from html import escape
from typing import Final

from agent.messages.canary import Histogram, KeptFrame, bucket_ms
from agent.messages.payloads import DetectedObject
from agent.messages.texts.printable import printable
from agent.report.comparison_report import Report, kept_frame, readable

MOST_PICTURES: Final = 12
_WIDTH, _HEIGHT = 640, 220
_FONT, _LETTER = 14, 8
"""Height of a label's letters and greatest usual width of one, in pixels of the picture."""
_SEEN: Final = 0.5
"""Least score of a keypoint that is drawn."""
_COLOURS: Final = {"stable": "#1f77b4", "candidate": "#d62728"}
_STYLE: Final = """body{font:15px/1.5 sans-serif;max-width:75em;margin:2em auto;padding:0 1em;color:#222}
pre{background:#f5f5f5;padding:1em;overflow:auto}figure{display:inline-block;margin:0 1em 1em 0;width:46%}
figure svg,figure img{width:100%}table.sign td{border-bottom:1px solid #222;width:20em;padding-top:3em}
.stable{color:#1f77b4}.candidate{color:#d62728}@media print{pre{white-space:pre-wrap}}"""


def page(report: Report) -> str:
    """Return the page."""
    one = report.record.canary
    title = f"{one.line}: {one.candidate} against {one.stable or 'what serves'}"
    parts = [
        f"<h1>{_safe(title)}</h1>",
        f"<p>Result: <b>{_safe(one.result)}</b>{_safe(f' ({one.reason}: {one.detail})' if one.reason else '')}</p>",
        f"<pre>{escape(chr(10).join(readable(report)))}</pre>",
        "<h2>Latency</h2>",
        _curves(report),
        *_pictures(report),
        '<h2>Decision</h2><table class="sign"><tr><td>name</td><td>date</td><td>signature</td></tr></table>',
    ]
    head = f'<meta charset="utf-8"><title>{_safe(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _curves(report: Report) -> str:
    """Draw the share of frames that were answered within each latency, for both models."""
    counts = report.record.counts
    histograms = {"stable": counts.stable_ms, "candidate": counts.candidate_ms}
    buckets = [bucket for one in histograms.values() for bucket in one.buckets]
    if not buckets:
        return "<p>No frame was answered yet.</p>"
    first, last = min(buckets), max(buckets) + 1
    lines = [
        f'<polyline fill="none" stroke="{_COLOURS[name]}" stroke-width="2" points="{_points(one, first, last)}"/>'
        for name, one in histograms.items()
        if one.buckets
    ]
    ticks = [
        f'<text x="{_x(place, first, last):.0f}" y="{_HEIGHT + 16}" font-size="12" text-anchor="middle">'
        f"{bucket_ms(place):.3g} ms</text>"
        for place in (first, (first + last) / 2, last)
    ]
    frame = f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="#999"/>'
    drawn = "".join([frame, *lines, *ticks])
    legend = (
        '<p><span class="stable">stable</span>, <span class="candidate">candidate</span>: share of the frames (up) '
    )
    return (
        f'{legend}answered within a time (right).</p><svg viewBox="-40 -10 {_WIDTH + 80} {_HEIGHT + 40}" '
        f'style="max-width:60em">{drawn}</svg>'
    )


def _points(histogram: Histogram, first: int, last: int) -> str:
    total, below, points = histogram.count, 0, [f"{_x(first, first, last):.1f},{_HEIGHT}"]
    for bucket in range(first, last):
        below += histogram.buckets.get(bucket, 0)
        points.append(f"{_x(bucket + 1, first, last):.1f},{_HEIGHT * (1 - below / total):.1f}")
    return " ".join(points)


def _x(place: float, first: int, last: int) -> float:
    return _WIDTH * (place - first) / max(1, last - first)


def _pictures(report: Report) -> Iterator[str]:
    if not report.frames:
        return
    yield "<h2>The most different frames</h2>"
    for name in report.frames[:MOST_PICTURES]:
        found = kept_frame(report, name)
        if found is None:
            continue
        frame, picture = found
        yield f"<h3>{_safe(frame.stream)}, frame {frame.frame}, {_safe(frame.captured_at)}</h3>"
        source = "data:image/jpeg;base64," + base64.b64encode(picture).decode()
        yield _figure("stable", source, frame, frame.stable, _top(frame.stable_top))
        yield _figure("candidate", source, frame, frame.candidate, _top(frame.candidate_top))


def _top(top: object) -> str:
    return f"{top[0].label} {top[0].score:.2f}" if isinstance(top, list) and top else ""


def _figure(model: str, source: str, frame: KeptFrame, objects: list[DetectedObject], top: str) -> str:
    shapes = "".join(_box(one, model, frame) for one in objects)
    picture = f'<image href="{source}" width="{frame.width}" height="{frame.height}"/>'
    drawing = f'<svg viewBox="0 0 {frame.width} {frame.height}">{picture}{shapes}</svg>'
    words = f"{model}: {_safe(top) or f'{len(objects)} objects'}"
    return f'<figure>{drawing}<figcaption class="{model}">{words}</figcaption></figure>'


def _box(one: DetectedObject, model: str, frame: KeptFrame) -> str:
    """Draw an object as far as its task gives it: outlines, keypoints, a turned box, or a box."""
    x1, y1, x2, y2 = one.box
    colour = _COLOURS[model]
    line = f'fill="none" stroke="{colour}" stroke-width="2"'
    if isinstance(one.polygons, list) and one.polygons:
        rings = (" ".join(f"{x},{y}" for x, y in zip(ring[::2], ring[1::2], strict=False)) for ring in one.polygons)
        shape = "".join(f'<polygon points="{ring}" {line}/>' for ring in rings)
    elif isinstance(one.corners, tuple):
        points = " ".join(f"{x},{y}" for x, y in one.corners)
        shape = f'<polygon points="{points}" {line}/>'
    else:
        shape = f'<rect x="{x1}" y="{y1}" width="{x2 - x1}" height="{y2 - y1}" {line}/>'
    if isinstance(one.keypoints, list):
        seen = ((x, y) for x, y, score in one.keypoints if score >= _SEEN)
        shape += "".join(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in seen)
    label = f"{_safe(one.label)} {one.score:.2f}"
    x, y = _label_place(one, frame)
    return f'{shape}<text x="{x}" y="{y}" font-size="{_FONT}" fill="{colour}">{label}</text>'


def _label_place(one: DetectedObject, frame: KeptFrame) -> tuple[float, float]:
    """Return the left end of a label's baseline: above the box, or else inside it, and within the picture."""
    x1, y1 = one.box[:2]
    width = (len(one.label) + len(" 0.50")) * _LETTER
    return max(0, min(x1, frame.width - width)), y1 - 3 if y1 - 3 >= _FONT else max(0, y1) + _FONT


def _safe(text: str) -> str:
    """Return a text of others as HTML: what a model calls its classes is neither a tag nor a command."""
    return escape(printable(text))
