"""Traces of changeovers as plants request them, generated from seeds, equal on every machine."""

import random
from collections.abc import Iterator, Sequence
from typing import Final, Literal

import msgspec

from agent.bench.plant.models import SIZES

Kind = Literal["shifts", "campaigns", "mixed", "operator"]
Size = Literal["n", "s", "m", "l", "x"]
_LENGTH: Final = 1200  # changeovers
_EXCEPTIONS: Final = 0.05  # of the orders of a shift
_TRIALS: Final = 0.08  # of the orders of a campaign
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_DAY_S: Final = 86400


class Header(msgspec.Struct, frozen=True):
    """Description of a trace."""

    trace: str
    kind: Kind
    seed: int
    models: dict[str, Size]
    """Size of each model, by name."""


class Changeover(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line's change to `model` at `at_s`."""

    at_s: int
    model: str
    line: str = "line-1"


class Trace(msgspec.Struct, frozen=True):
    """Changeovers of one plant."""

    header: Header
    changeovers: tuple[Changeover, ...]


def as_lines(trace: Trace) -> bytes:
    """Return a trace as lines of JSON: the header, then the changeovers in order of time."""
    parts = [msgspec.json.encode(one) for one in (trace.header, *trace.changeovers)]
    return b"\n".join(parts) + b"\n"


def generate_all() -> list[Trace]:
    """Return the traces of the benchmark, in order of name."""
    return [
        generate("campaigns-1", "campaigns", seed=23, models=8),
        generate("campaigns-2", "campaigns", seed=24, models=12),
        generate("mixed-1", "mixed", seed=25, models=8),
        generate("mixed-2", "mixed", seed=26, models=10),
        generate("mixed-two-lines", "mixed", seed=27, models=10, lines=2),
        generate("operator-1", "operator", seed=28, models=8),
        generate("operator-2", "operator", seed=29, models=12),
        generate("shifts-1", "shifts", seed=21, models=8),
        generate("shifts-2", "shifts", seed=22, models=12),
    ]


def generate(name: str, kind: Kind, *, seed: int, models: int, lines: int = 1) -> Trace:
    """Return one trace; equal arguments give equal traces."""
    chance = random.Random(f"{kind}/{seed}")  # noqa: S311 - plants are no secrets
    sizes = _sizes(models, chance)
    makers = {"shifts": _shifts, "campaigns": _campaigns, "mixed": _mixed, "operator": _operator}
    streams = [makers[kind](list(sizes), random.Random(f"{kind}/{seed}/{line}")) for line in range(lines)]  # noqa: S311 - as above
    found = [
        Changeover(at_s, model, f"line-{number + 1}")
        for number, stream in enumerate(streams)
        for at_s, model in _changes(stream, _LENGTH // lines)
    ]
    return Trace(Header(name, kind, seed, sizes), tuple(sorted(found, key=lambda one: (one.at_s, one.line))))


def _sizes(models: int, chance: random.Random) -> dict[str, Size]:
    """Assign each model a size: every size occurs, small ones more often."""
    rest: Sequence[Size] = chance.choices(SIZES, weights=(4, 3, 2, 1, 1), k=models - len(SIZES))
    sizes: list[Size] = [*SIZES, *rest]
    chance.shuffle(sizes)
    return {f"check-{number:02d}": size for number, size in enumerate(sizes, 1)}


def _changes(stream: Iterator[tuple[float, str]], length: int) -> Iterator[tuple[int, str]]:
    """Yield the first `length` entries that change the model."""
    before, count = "", 0
    for at_s, model in stream:
        if model == before:
            continue
        yield int(at_s), model
        before, count = model, count + 1
        if count == length:
            return


def _shifts(models: list[str], chance: random.Random) -> Iterator[tuple[float, str]]:
    """Yield three shifts a day, each with a few own products and a common one, and some exceptional orders."""
    common, *rest = models
    own = [rest[shift::3] for shift in range(3)]
    at_s = 0.0
    while True:
        for products in own:
            end_s = at_s + 8 * _HOUR_S
            while at_s < end_s:
                exception = chance.random() < _EXCEPTIONS
                yield at_s, chance.choice(models if exception else [common, *products])
                at_s += chance.uniform(0.5, 2.5) * _HOUR_S
            at_s = end_s


def _campaigns(models: list[str], chance: random.Random) -> Iterator[tuple[float, str]]:
    """Yield campaigns of some days with two to four products in turn, and trials of others in between."""
    at_s = 0.0
    while True:
        products = chance.sample(models, chance.randint(2, 4))
        end_s = at_s + chance.uniform(2, 6) * _DAY_S
        while at_s < end_s:
            trial = chance.random() < _TRIALS
            yield at_s, chance.choice(models if trial else products)
            at_s += chance.uniform(1, 6) * _HOUR_S


def _mixed(models: list[str], chance: random.Random) -> Iterator[tuple[float, str]]:
    """Yield a levelled sequence: each product in proportion to its demand, evenly spread.

    Demands are drawn each week, and differ by more than ten times.
    """
    at_s = 0.0
    while True:
        demand = {model: 1 / rank for rank, model in enumerate(chance.sample(models, len(models)), 1)}
        owed = dict.fromkeys(models, 0.0)
        total = sum(demand.values())
        for _ in range(150):
            for model in models:
                owed[model] += demand[model] / total * chance.uniform(0.5, 1.5)
            model = max(owed, key=lambda one: owed[one])
            owed[model] -= 1
            yield at_s, model
            at_s += chance.uniform(2, 20) * _MINUTE_S


def _operator(models: list[str], chance: random.Random) -> Iterator[tuple[float, str]]:
    """Yield an operator's trials: favourites, back and forth, through all models, and random ones."""
    at_s = 0.0
    favourites = chance.sample(models, len(models) // 3)
    while True:
        mood = chance.choice(("favourites", "favourites", "back and forth", "through all", "chance"))
        if mood == "favourites":
            picks = chance.choices(favourites, k=12)
        elif mood == "back and forth":
            picks = chance.sample(models, 2) * chance.randint(2, 5)
        elif mood == "through all":
            picks = chance.sample(models, len(models))
        else:
            picks = chance.choices(models, k=8)
        for model in picks:
            yield at_s, model
            at_s += chance.expovariate(1 / 90)
        at_s += chance.uniform(0, 4) * _HOUR_S
