"""Effects of `models add` and `models remove` on a configuration and on a running agent, in words."""

from agent.health.metrics import running_agent
from agent.messages.errors import MistakeError
from agent.messages.references import ModelReference, ModelVersion
from agent.models.catalog import Catalog
from agent.models.checks import uses
from agent.settings import Settings

_RELOAD = "`sudo systemctl reload changeover`, or cmd/reload"


def require_unused(settings: Settings, reference: ModelReference) -> None:
    """Raise MistakeError where a setting resolves to this model version, or the running agent has it in memory."""
    catalog = Catalog.load(settings.catalog.file, settings.catalog.store_dir)
    version = next((one for one in catalog.versions if one.reference == str(reference)), None)
    if version is None:
        return
    found = uses(settings, catalog, version)
    agent = running_agent.ask(settings.http.bind, settings.device.id)
    if agent is not None and version.reference in agent.resident:
        found.append(f"the running agent ({agent.resident[version.reference]})")
    if found:
        raise MistakeError(
            f"{version.reference} is in use by {', '.join(found)}: let those name another version and reload, "
            "or remove it all the same with --force"
        )


def after_adding(settings: Settings, version: ModelVersion) -> str:
    """Return text for the user: whether a reload is needed, and which settings then resolve to the added version."""
    meant = uses(settings, Catalog.load(settings.catalog.file, settings.catalog.store_dir), version)
    then = f"; then {', '.join(meant)} {'mean' if len(meant) > 1 else 'means'} it" if meant else ""
    if running_agent.ask(settings.http.bind, settings.device.id) is not None:
        return f"the running agent does not know it yet, and needs a reload: {_RELOAD}{then}"
    if settings.http.bind:
        return f"no agent answers on {settings.http.bind}: it is read at the next start{then}"
    return f"a running agent needs a reload: {_RELOAD}{then}"


def after_removing(settings: Settings) -> str:
    """Return text for the user: whether a reload is needed for the agent to forget the removed version."""
    if running_agent.ask(settings.http.bind, settings.device.id) is None and settings.http.bind:
        return f"no agent answers on {settings.http.bind}: nothing else is needed"
    return f"a running agent knows it until a reload: {_RELOAD}"
