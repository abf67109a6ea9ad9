"""The OpenAPI document has every path of the gateway, and no other."""

from typing import TYPE_CHECKING, Any, cast

from starlette.routing import Route

from agent.web.gateway.rest import openapi
from agent.web.gateway.rest.routes import routes

if TYPE_CHECKING:
    from agent.web.gateway.core.service import GatewayService


def test_each_path_and_method_is_in_the_document() -> None:
    served = {
        (route.path, method)
        for route in routes(cast("GatewayService", None))
        if isinstance(route, Route) and not route.path.endswith((":path}", "/v2/"))
        for method in cast("Any", route.endpoint).methods
    }
    told = {(path, method.upper()) for path, calls in openapi.document()["paths"].items() for method in calls}
    assert told == served


def test_each_name_in_a_path_is_a_parameter() -> None:
    for path, calls in openapi.document()["paths"].items():
        for call in calls.values():
            named = {one["name"] for one in call.get("parameters", ()) if one["in"] == "path"}
            assert named == {part.strip("{}") for part in path.split("/") if part.startswith("{")}
