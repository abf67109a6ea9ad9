"""`changeover bench swap`: wait of a line for its model, lost frames, and detections by a wrong model."""

from typing import Any, Final

from agent.bench.options import Options
from agent.bench.plant.models import SIZES, ensure
from agent.bench.swap import beside_a_load, cold_swaps, preloaded_swaps, resident_swaps

_SMALL: Final = 320
"""Size of pictures at which a line at 15 fps leaves CPU time on a small processor."""


def run(options: Options) -> dict[str, Any]:
    """Measure resident swaps, cold swaps against the reference manager, and loads beside a paced line."""
    models = ensure(options.models_dir, precision=options.precision)
    targets = {size: "n-b" if size == "n" else size for size in SIZES}
    resident = resident_swaps.measure(models, options.folder / "resident", ("n", "n-b"), options.swaps)
    small = ensure(options.models_dir / "small-320", ("n", "n-b"), _SMALL, options.precision)
    fewer = max(1, options.swaps // 3)
    resident["at_320"] = resident_swaps.measure(small, options.folder / "small", ("n", "n-b"), fewer)
    cold = cold_swaps.measure(models, options.folder / "cold", targets, 1 if options.quick else 3)
    load = beside_a_load.measure(models, options.folder / "load", ("n", "m", "x"), 3 if options.quick else 12)
    cold["half_loaded"] = cold_swaps.measure_paced(models, options.folder / "cold", targets, load["paced_fps"], cold)
    restarts = 2 if options.quick else 6
    preloaded = preloaded_swaps.measure(models, options.folder / "preloaded", targets, cold["half_loaded"], restarts)
    return {
        "precision": cold.pop("precision"),
        "resident": resident,
        "preloaded": preloaded,
        "cold": cold,
        "load": load,
        "command_to_ready_ms": resident["command_to_ready_ms"],
        "vs_article": cold["vs_article"],
        "p50_during_load": load["p50_during_load"],
        "p99_during_load": load["p99_during_load"],
        "wrong_model": resident["wrong_model"]
        + resident["at_320"]["wrong_model"]
        + cold["wrong_model"]
        + cold["half_loaded"]["wrong_model"]
        + preloaded["wrong_model"]
        + load["wrong_model"],
        "frames_lost": resident["frames_lost"] + preloaded["frames_lost"] + load["frames_lost"],
    }
