"""The OpenAPI document has every path of the gateway, and no other."""

from typing import TYPE_CHECKING, Any, cast

import msgspec
from starlette.routing import Route

from agent.messages.payloads import DetectedObject, ScoredLabel
from agent.web.gateway.rest import openapi
from agent.web.gateway.rest.answers import STATUS
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


def test_both_bodies_of_infer_are_told() -> None:
    for path, calls in openapi.document()["paths"].items():
        if path.endswith("/infer"):
            assert set(calls["post"]["requestBody"]["content"]) == {"application/json", "application/octet-stream"}


def test_each_status_of_a_refusal_is_told_and_when_to_retry() -> None:
    for calls in openapi.document()["paths"].values():
        for call in calls.values():
            assert {str(status) for status in STATUS.values()} <= set(call["responses"])
            assert all("Retry-After" in call["responses"][code]["headers"] for code in ("429", "503"))


def test_each_field_of_an_object_is_told() -> None:
    detect = openapi.document()["paths"]["/v2/models/{model}/detect"]["post"]
    answer = detect["responses"]["200"]["content"]["application/json"]["schema"]["properties"]
    for field, kind in (("objects", DetectedObject), ("top", ScoredLabel)):
        assert set(answer[field]["items"]["properties"]) == {one.encode_name for one in msgspec.structs.fields(kind)}
