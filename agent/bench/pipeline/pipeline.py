"""`changeover bench pipeline`: share of the runtime's speed that the agent keeps, and time of a frame by stage."""

from dataclasses import replace
from typing import Any, Final

from agent.bench.options import Options
from agent.bench.pipeline import accuracy, control_cost, stages, throughput
from agent.bench.pipeline.stages import Scene
from agent.bench.plant.children import say
from agent.bench.plant.models import Models, ensure
from agent.bench.plant.warm_up import prepare_models
from agent.demo import assets
from agent.messages.errors import TransientError

_SIZES: Final = ("n", "s", "m")
_RATIOS: Final = ("vs_forward", "vs_ultralytics", "vs_torch", "vs_torch_as_run", "precision")
_ROUNDS: Final = 5
_SECONDS: Final = 20.0
_FRAMES: Final = 200  # rendered, of each of the demo's models
_COUNTS: Final = (1, 2, 4, 8)
_FAST: Final = 320
"""Size of pictures at which an inference takes about as long as on a GPU, so that the agent's own time shows."""
_SMALL: Final = 64
"""Small pictures, because the model's time must not matter when control is measured."""
_CAMERAS: Final = 8
_PACED_FPS: Final = 3.0
_LATENCY_FPS: Final = 10.0
_SHARE: Final = 0.5
"""Load of the demanded scene on the machine it was written for: 24 of about 45 forwards a second.

A second scene has as many streams as load this machine equally.
"""


def run(options: Options) -> dict[str, Any]:
    """Measure two models against competitors, then one of them by stages, paced, and with a tiny model."""
    models = ensure(options.models_dir, precision=options.precision)
    small = ensure(options.models_dir / "small", ("n",), _SMALL, options.precision)
    fast = ensure(options.models_dir / "small-320", ("n", "n-b"), _FAST, options.precision)
    rounds = options.rounds or (1 if options.quick else _ROUNDS)
    seconds = options.seconds or (4.0 if options.quick else _SECONDS)
    figures = measure(models, small, replace(options, rounds=rounds, seconds=seconds))
    figures["streams_at_320"] = stages.by_count(Scene(fast, options.folder / "fast", "n", seconds), (1, 4), rounds)
    return figures | {"accuracy": _accuracy(options)}


def _accuracy(options: Options) -> dict[str, Any]:
    say("the demo's models and the real pictures")
    try:
        found = assets.fetch()
    except TransientError as error:
        return {"unavailable": str(error)}
    return accuracy.measure(found, options.folder / "accuracy", 8 if options.quick else _FRAMES)


def measure(models: Models, small: Models, options: Options, sizes: tuple[str, ...] = _SIZES) -> dict[str, Any]:
    """Return every figure; those of a single model are of the first of `sizes`."""
    seconds, folder = options.seconds, options.folder
    speed = {
        size: throughput.measure(models, folder / f"speed-{size}", size, options.rounds, seconds) for size in sizes
    }
    forwards_per_s = speed[sizes[0]]["forwards_per_s"]
    scene = Scene(models, folder / "streams", sizes[0], seconds)
    plant = scene.plant(_LATENCY_FPS, 1)
    prepare_models(plant, [scene.name])
    with throughput.forward(plant, scene.name) as runtime:
        beyond = stages.beyond_forward(scene, _LATENCY_FPS, options.rounds, runtime)
    fitting = max(1, round(_SHARE * forwards_per_s / _PACED_FPS))
    at_share = stages.paced(scene, fitting, _PACED_FPS)
    return {
        **{figure: {size: one.get(figure) for size, one in speed.items()} for figure in _RATIOS},
        "speed": speed,
        "streams": stages.by_count(scene, (1, 4, 8), options.rounds),
        "by_streams": stages.by_streams(scene, _COUNTS),
        "paced": stages.paced(scene, _CAMERAS, _PACED_FPS),
        "paced_at_share": at_share | {"share": fitting * _PACED_FPS / forwards_per_s},
        "beyond_forward": beyond,
        "control": control_cost.measure(small, folder / "control", "n", seconds),
        "seconds": seconds,
    }
