"""Chooses an artifact's precision: the fastest one that answers as the source does."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent.inference import backends
from agent.inference.artifacts.artifact_store import Made, Opened
from agent.inference.backends.detector import Look
from agent.inference.validation import parity
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion

_TIMES: Final = 20
_LEAST: Final = 3
_LONG_S: Final = 2.0
_GAIN: Final = 1.1  # least ratio of speed for which a precision of fewer bits is worth it
_AGAIN: Final = 3
"""Further looks at the times before the precision of fewest bits is passed over: a burst of other work during its two
seconds would else cost the line half its speed until the next preparation."""


def make_best(  # noqa: PLR0913, PLR0917 - one build, spelt out
    version: ModelVersion,
    compute: str,
    folder: Path,
    images: Path | None,
    tell: Callable[[str], None],
    cache_dir: Path | None = None,
    only: str = "",
) -> Made:
    """Make an artifact of a graph file in `folder`, in the fastest precision with sufficient parity, or in `only`.

    On a device with several precisions, each is compared to the first one by its answers to the pictures in `images`;
    None: to drawn pictures. An engine is compared to the CPU's runtime, in each precision. `cache_dir` keeps
    timings that shorten later builds. Raises what `backends.make` raises, and MistakeError for a folder without
    pictures.
    """
    names = backends.precisions(version, compute)
    if len(names) == 1 or only:
        return backends.make(version, compute, folder, only or names[0])
    seen = parity.pictures(images)
    is_engine = backends.takes_engine(version, compute)
    source = backends.load_for(version, compute, names[0])
    try:
        expected = parity.looks(source, seen)
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
        alike = parity.compare_looks(expected, found, version.confidence, is_drawn=images is None)
        tell(f"{name}: {alike}, {took_ms:.1f} ms a picture")
        if alike.is_enough or (name == names[0] and not is_engine):
            tried.append((took_ms, name, made))
    if not tried:
        raise ModelError("proof_failed", f"{version.reference}: its engine answers otherwise than the file: {alike}")
    for _ in range(_AGAIN):
        if fastest(tried)[0] == tried[-1][1]:
            break
        tell("timing once more")
        tried = [
            (min(ms, _again_ms(version, compute, folder / name, made, seen[0])), name, made) for ms, name, made in tried
        ]
    name, made = fastest(tried)
    return _keep(folder, name, made, names)


def fastest(tried: list[tuple[float, str, Made]]) -> tuple[str, Made]:
    """Return the fastest precision, with its artifact; of nearly equal ones the first, lest chance decide."""
    best = tried[0]
    for one in tried[1:]:
        best = one if one[0] * _GAIN <= best[0] else best
    return best[1:]


def _try(  # noqa: PLR0913, PLR0917 - one build, spelt out
    version: ModelVersion,
    compute: str,
    folder: Path,
    name: str,
    seen: list[parity.Picture],
    tell: Callable[[str], None],
    cache_dir: Path | None,
) -> tuple[Made, list[Look], float]:
    """Make the artifact in one precision; return it with its answers and its least time for one picture (ms)."""
    folder.mkdir()
    made = backends.make(version, compute, folder, name, tell=tell, cache_dir=cache_dir)
    model = backends.restore(version, Opened.made(folder, made), compute, folder)
    try:
        found = parity.looks(model, seen)
        return made, found, _least_ms(model, seen[0])
    finally:
        model.close()


def _again_ms(version: ModelVersion, compute: str, folder: Path, made: Made, picture: parity.Picture) -> float:
    """Load an artifact that was tried before; return its least time for one picture (ms)."""
    model = backends.restore(version, Opened.made(folder, made), compute, folder)
    try:
        return _least_ms(model, picture)
    finally:
        model.close()


def _least_ms(model: backends.Model, picture: parity.Picture) -> float:
    """Return the least time of some inferences, because whatever disturbs one only adds to it."""
    until_s = time.monotonic() + _LONG_S
    times_ms = [_time_ms(model, picture)]
    while len(times_ms) < _LEAST or (len(times_ms) < _TIMES and time.monotonic() < until_s):
        times_ms.append(_time_ms(model, picture))
    return min(times_ms)


def _time_ms(model: backends.Model, picture: parity.Picture) -> float:
    began_ns = time.monotonic_ns()
    model.infer(picture)
    return (time.monotonic_ns() - began_ns) / 1e6


def _keep(folder: Path, name: str, made: Made, names: tuple[str, ...]) -> Made:
    (folder / name / made.file).rename(folder / made.file)
    for other in names:
        shutil.rmtree(folder / other, ignore_errors=True)
    return made
