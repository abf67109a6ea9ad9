"""`changeover bench tasks`: cost of decoding, and the speed of a nano of each task beside `YOLO.predict`."""

from typing import Any, Final

from agent.bench.options import Options
from agent.bench.pipeline import throughput
from agent.bench.plant.models import IMGSZ, Models, ensure
from agent.bench.tasks import decoding

_NAMES: Final = ("n-seg", "n-pose", "n-obb")
_WHOLE: Final = ("n-cls",)
_WHOLE_IMGSZ: Final = 224
_RATIOS: Final = ("vs_forward", "vs_ultralytics", "precision")
_ROUNDS: Final = 5
_SECONDS: Final = 20.0


def run(options: Options) -> dict[str, Any]:
    """Measure decoding, then each model against the bare runtime and ultralytics, on the same artifact's precision."""
    folder = options.models_dir / "tasks"
    objects = ensure(folder / "objects", _NAMES, IMGSZ, options.precision)
    wholes = ensure(folder / "wholes", _WHOLE, _WHOLE_IMGSZ, options.precision)
    figures = decoding.measure(quick=options.quick)
    return {**figures, **measure(dict.fromkeys(_NAMES, objects) | dict.fromkeys(_WHOLE, wholes), options)}


def measure(models: dict[str, Models], options: Options) -> dict[str, Any]:
    """Return the ratios of each model, and what they come from."""
    rounds = options.rounds or (1 if options.quick else _ROUNDS)
    seconds = options.seconds or (4.0 if options.quick else _SECONDS)
    speed = {
        name: throughput.measure(one, options.folder / name, name, rounds, seconds, against=("ultralytics",))
        for name, one in models.items()
    }
    ratios = {figure: {name: one.get(figure) for name, one in speed.items()} for figure in _RATIOS}
    return {**ratios, "speed": speed, "seconds": seconds}
