"""Routes of the console."""

from starlette.routing import BaseRoute

from agent.web.serving.parts import WebParts


def routes(parts: WebParts) -> list[BaseRoute]:
    """Return the console's routes; they come after those of the gateway, which all begin with /v2."""
    del parts
    return []
