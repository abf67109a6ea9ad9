"""The configured world, in the shape that decisions take."""

from agent.control.state import LineRules, Plant
from agent.models.catalog import Catalog
from agent.settings import LineSettings, Settings


def plant_of(settings: Settings, catalog: Catalog, boot: str) -> Plant:
    """Return the plant that `settings` and `catalog` describe."""
    return Plant(
        base=base_topic(settings),
        boot=boot,
        lines={id_: _rules(line) for id_, line in settings.line.items()},
        streams={stream.id: stream.line for stream in settings.stream},
        find=catalog.find,
    )


def base_topic(settings: Settings) -> str:
    """Return `{root}/{device}`."""
    return f"{settings.mqtt.root}/{settings.device.id}"


def _rules(line: LineSettings) -> LineRules:
    return LineRules(
        default=line.default,
        variant=line.variant,
        products=line.products,
        changeover_timeout_s=line.changeover_timeout_s,
    )
