"""Chooses an artifact's precision: the fastest one that finds the same objects as the source."""

import shutil
import statistics
import time
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Final

from agent.inference import backends
from agent.inference.artifacts.artifact_store import Made, Opened
from agent.inference.validation import parity
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion

_TIMES: Final = 5


def make_best(  # noqa: PLR0913, PLR0917 - one build, spelt out
    version: ModelVersion,
    compute: str,
    folder: Path,
    images: Path | None,
    tell: Callable[[str], None],
    cache_dir: Path | None = None,
) -> Made:
    """Make an artifact of a graph file in `folder`, in the fastest precision with sufficient parity.

    On a device with several precisions, each is compared to the first one by its detections on the pictures in
    `images`; None: on drawn pictures. An engine is compared to the CPU's runtime, in each precision. `cache_dir` keeps
    timings that shorten later builds. Raises what `backends.make` raises, and MistakeError for a folder without
    pictures.
    """
    names = backends.precisions(version, compute)
    if len(names) == 1:
        return backends.make(version, compute, folder, names[0])
    seen = parity.pictures(images)
    is_engine = backends.takes_engine(version, compute)
    source = backends.load_for(version, compute, names[0])
    try:
        expected = parity.answers(source, seen)
    finally:
        source.close()
    tried: list[tuple[float, str, Made]] = []
    for name in names:
        tell(f"compiling in {name}")
        try:
            made, found, took_ms = _try(version, compute, folder / name, name, seen, tell, cache_dir)
        except ModelError as error:
            if name == names[0]:
                raise
            tell(f"{name}: {error}")
            continue
        alike = parity.compare(expected, found, version.confidence)
        tell(f"{name}: {alike}, {took_ms:.1f} ms a picture")
        if alike.is_enough or (name == names[0] and not is_engine):
            tried.append((took_ms, name, made))
    if not tried:
        raise ModelError("proof_failed", f"{version.reference}: its engine answers otherwise than the file: {alike}")
    _, name, made = min(tried, key=itemgetter(0))
    return _keep(folder, name, made, names)


def _try(  # noqa: PLR0913, PLR0917 - one build, spelt out
    version: ModelVersion,
    compute: str,
    folder: Path,
    name: str,
    seen: list[parity.Picture],
    tell: Callable[[str], None],
    cache_dir: Path | None,
) -> tuple[Made, list[backends.Objects], float]:
    """Make the artifact in one precision; return it with its detections and its time for one picture (ms)."""
    folder.mkdir()
    made = backends.make(version, compute, folder, name, tell=tell, cache_dir=cache_dir)
    model = backends.restore(version, Opened.made(folder, made), compute, folder)
    try:
        found = parity.answers(model, seen)
        return made, found, statistics.median(_time_ms(model, seen[0]) for _ in range(_TIMES))
    finally:
        model.close()


def _time_ms(model: backends.Model, picture: parity.Picture) -> float:
    began_ns = time.monotonic_ns()
    model.infer(picture)
    return (time.monotonic_ns() - began_ns) / 1e6


def _keep(folder: Path, name: str, made: Made, names: tuple[str, ...]) -> Made:
    (folder / name / made.file).rename(folder / made.file)
    for other in names:
        shutil.rmtree(folder / other, ignore_errors=True)
    return made
