"""Routes of the gateway."""

from starlette.routing import BaseRoute

from agent.web.serving.parts import WebParts


def routes(parts: WebParts) -> list[BaseRoute]:
    """Return the gateway's routes, all of which begin with /v2."""
    del parts
    return []
