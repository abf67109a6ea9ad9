"""Sections of the view: text and colour of each row."""

from typing import Final

from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from agent.messages.payloads import Alert, CacheModel, JobState, NextChange, Refused, Switch
from agent.watch.board.rows import BrokerRow, LineRow, MemoryRow, ProcessRow, Snapshot, StreamRow
from agent.watch.screen.section import NARROW, USUAL, WIDE, Column, Section
from agent.watch.screen.shown import BAD, BUSY, GOOD, age, clock, duration, mib, number, rate, text, word

_LINES: Final = (
    Column("LINE"),
    Column("PRODUCT", give_way=True),
    Column("MODEL", give_way=True, from_width=NARROW),
    Column("PHASE"),
    Column("READY", give_way=True),
    Column("LIVE", right=True),
    Column("CAUSE", give_way=True, from_width=USUAL),
)
_NEXT: Final = Column("NEXT", give_way=True, from_width=WIDE)
"""Shown only where a schedule will change a line."""
_STREAMS: Final = (
    Column("STREAM"),
    Column("LINE", from_width=WIDE),
    Column("STATUS"),
    Column("FPS", right=True),
    Column("P50", right=True, from_width=NARROW),
    Column("P99", right=True, from_width=NARROW),
    Column("DROPPED", right=True, from_width=NARROW),
    Column("OBJECTS", give_way=True),
)
_MODELS: Final = (
    Column("RESIDENT", give_way=True),
    Column("MIB", right=True),
    Column("STATE"),
    Column("RESERVED FOR", give_way=True),
    Column("ON", from_width=NARROW),
)
_CHANGEOVERS: Final = (
    Column("TIME", from_width=NARROW),
    Column("LINE"),
    Column("PRODUCT", give_way=True),
    Column("FROM", give_way=True, from_width=WIDE),
    Column("TO", give_way=True),
    Column("RESULT", give_way=True),
    Column("RESIDENCY", from_width=WIDE),
    Column("TOTAL", right=True),
    Column("BLIND", right=True, from_width=NARROW),
    Column("LOST", right=True, from_width=NARROW),
)
_ALERTS: Final = (Column("ALERT"), Column("WHERE"), Column("DETAIL", give_way=True))
_JOBS: Final = (
    Column("ORDER"),
    Column("state"),
    Column("", right=True),
    Column("models", from_width=USUAL, give_way=True),
    Column("why", give_way=True),
)
_REFUSED: Final = (
    Column("REFUSED"),
    Column("REASON"),
    Column("TOPIC", give_way=True, from_width=NARROW),
    Column("DETAIL", give_way=True),
)
_CAMERA: Final = "camera_"
_NO_ALERT: Final = (Column("NO ALERT"),)


def header(board: Snapshot, width: int) -> Table:
    """Return the head line: device at the left, broker at the right."""
    device = board.device
    left = Text.assemble(text(device.device, "bold"), "  ", word(device.status), no_wrap=True, overflow="ellipsis")
    backend = device.backend if width >= WIDE else ""
    if device.is_clock_synced is False:
        left.append("  clock not synced", BUSY)
    for name, value in (("boot", device.boot), ("changeover", device.version), ("on", backend)):
        if value:
            left.append_text(text(f"  {name} {value}"))
    if board.broken:
        left.append(f"  {board.broken} not understood", BUSY)
    if board.missed:
        left.append(f"  {board.missed} missed", BUSY)
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.width = width
    grid.add_column(ratio=1)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_row(left, _broker(board.broker))
    return grid


def away(broker: BrokerRow) -> Text | None:
    """Return the error of the connection to the broker; None while it is up, or without an address."""
    if broker.is_up or not broker.address:
        return None
    return text(f"broker away: {broker.detail or 'no answer yet'}; trying again", BAD)


def alerts(rows: tuple[Alert, ...]) -> Section:
    """Return the section of active alerts."""
    return Section(_ALERTS if rows else _NO_ALERT, [_alert(row) for row in rows], least=1, most=6)


def refused(rows: tuple[Refused, ...]) -> Section:
    """Return the section of refused commands, newest first."""
    return Section(_REFUSED, [_refusal(row) for row in rows], least=1, most=4, counts_rest=False)


def jobs(rows: tuple[JobState, ...]) -> Section:
    """Return the section of orders for models, newest first."""
    return Section(_JOBS, [_job(row) for row in rows], least=1, most=4)


def lines(rows: tuple[LineRow, ...]) -> Section:
    """Return the section of lines: product, model, phase, and whether a PLC may run."""
    if not any(row.next_change for row in rows):
        return Section(_LINES, [_line(row) for row in rows], least=2, most=len(rows))
    told = [[*_line(row), _next(row.next_change)] for row in rows]
    return Section((*_LINES, _NEXT), told, least=2, most=len(rows))


def streams(rows: tuple[StreamRow, ...]) -> Section:
    """Return the section of streams."""
    return Section(_STREAMS, [_stream(row) for row in rows], least=2, most=len(rows))


def budget(memory: MemoryRow | None, device: ProcessRow | None) -> Table:
    """Return one line: a bar of the memory budget's use, and the device's available memory."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    parts: list[Text | ProgressBar] = [text("MEMORY", "bold")]
    if memory is not None:
        style = BAD if memory.used_bytes > memory.budget_bytes else "default"
        parts += [
            _bar(memory, style),
            text(f"{mib(memory.used_bytes)} of {mib(memory.budget_bytes)} MiB", style),
        ]
    if device is not None and device.available_bytes is not None:
        parts.append(text(f"device has {mib(device.available_bytes)} MiB left"))
    grid.add_row(*parts)
    return grid


def _bar(memory: MemoryRow, style: str) -> ProgressBar:
    most = max(1.0, float(mib(memory.budget_bytes)))
    used = min(most, float(mib(memory.used_bytes)))
    return ProgressBar(most, used, width=30, style="dim", complete_style=style, finished_style=style)


def models(memory: MemoryRow | None) -> Section:
    """Return the section of resident models."""
    rows = [_model(row) for row in memory.models] if memory else []
    return Section(_MODELS, rows, least=1, most=len(rows))


def processes(row: ProcessRow | None) -> Text:
    """Return one line: processes, outbox, round trip, load, temperature."""
    if row is None:
        return Text.assemble(text("PROCESSES", "bold"), "  -")
    said = Text.assemble(text("PROCESSES", "bold"), "  ", text(_sizes(row.memory_bytes)))
    said.append("  ").append_text(text(f"outbox {row.outbox:.0f}", BUSY if row.outbox else ""))
    if row.outbox_dropped:
        said.append("  ").append_text(text(f"dropped {row.outbox_dropped:.0f}", BUSY))
    if row.round_trip_ms is not None:
        said.append("  round trip ").append_text(duration(row.round_trip_ms))
    if row.hottest_c is not None:
        said.append_text(text(f"  {row.hottest_c:.0f} °C"))
    if row.load is not None:
        said.append_text(text(f"  load {row.load:.1f}"))
    said.no_wrap, said.overflow = True, "ellipsis"
    return said


def changeovers(rows: tuple[Switch, ...]) -> Section:
    """Return the section of the last changeovers, newest first."""
    return Section(_CHANGEOVERS, [_changeover(row) for row in rows], least=2, most=len(rows), counts_rest=False, gap=1)


def _broker(row: BrokerRow) -> Text:
    if not row.address:
        return Text()
    said = ("up", GOOD) if row.is_up else ("away", BAD)
    return Text.assemble(text(row.address), " ", said, " ", age(row.age_s))


def _sizes(memory_bytes: tuple[tuple[str, int], ...]) -> str:
    named = [(name, size) for name, size in memory_bytes if not name.startswith(_CAMERA)]
    cameras = sum(size for name, size in memory_bytes if name.startswith(_CAMERA))
    said = [*named, ("cameras", cameras)] if cameras else named
    return ", ".join(f"{name} {mib(size)}" for name, size in said) + " MiB" if said else ""


def _alert(row: Alert) -> list[Text]:
    return [text(row.code, BAD), text(row.line or row.stream), text(row.detail)]


def _job(row: JobState) -> list[Text]:
    style = BAD if row.state in {"failed", "rejected"} else "default"
    share = f"{row.bytes / row.total:.0%}" if row.total and row.state in {"downloading", "verifying"} else ""
    why = ": ".join(one for one in (row.reason, row.detail) if one)
    return [text(row.id), text(row.state, style), text(share), text(", ".join(row.models)), text(why, style)]


def _refusal(row: Refused) -> list[Text]:
    more = f" (and {row.more} more)" if row.more else ""
    return [text(clock(row.at)), text(row.reason, BUSY), text(row.topic), text(f"{row.detail or ''}{more}")]


def _line(row: LineRow) -> list[Text]:
    return [
        text(row.line),
        text(row.product),
        text(row.model),
        word(row.phase),
        _ready(row),
        _live(row),
        text(row.cause),
    ]


def _next(change: NextChange | None) -> Text:
    return text(f"{clock(change.at)[:5]} {change.model}" if change is not None else None)


def _ready(row: LineRow) -> Text:
    if row.ready in {None, "0"}:
        return text(row.ready)
    return text(row.ready, GOOD if row.names_product else BAD if row.is_stale else BUSY)


def _live(row: LineRow) -> Text:
    said = age(row.live_age_s)
    if row.is_stale:
        return text(f"{said} old" if row.live is not None else f"none {said}", BAD)
    return text(said if row.live is not None else "-", GOOD if row.names_product else "")


def _stream(row: StreamRow) -> list[Text]:
    # dashes, because without frames the last values are old
    is_still = row.fps == 0
    objects = "" if is_still else ", ".join(row.objects)
    return [
        text(row.stream),
        text(row.line),
        word(row.status),
        rate(row.fps),
        duration(None if is_still else row.p50_ms),
        duration(None if is_still else row.p99_ms),
        number(row.dropped),
        text(objects),
    ]


def _model(row: CacheModel) -> list[Text]:
    return [text(row.model), text(mib(row.bytes)), text(row.state), text(row.reserved_for), text(row.processor)]


def _changeover(row: Switch) -> list[Text]:
    return [
        text(clock(row.ready_at or row.requested_at)),
        text(row.line),
        text(row.product),
        text(row.from_),
        text(row.to),
        _result(row),
        text(row.residency),
        duration(row.total_ms),
        duration(row.blind_ms, BUSY if row.blind_ms else ""),
        number(row.frames_lost, BUSY if row.frames_lost else ""),
    ]


def _result(row: Switch) -> Text:
    said = word(row.result)
    return said if row.reason is None else text(row.reason, str(said.style))
