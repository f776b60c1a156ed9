"""OpenAPI document, compared with the server."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asynccam.systems.snapshot.server.api_v1 import ApiV1, EventFeed
from asynccam.systems.snapshot.server.openapi import openapi_document
from tests.systems.snapshot.web.rig import TOKEN, serving

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
TYPES = {"string", "number", "integer", "boolean", "array", "object", "null"}
SCHEMA_KEYS = {
    *("$ref", "type", "title", "description", "properties", "required", "items", "anyOf", "allOf", "enum"),
    *("const", "default", "examples", "additionalProperties", "minimum", "maximum", "minLength", "maxLength"),
    *("exclusiveMinimum", "format", "prefixItems"),
}


def every_schema(value: Any) -> Iterator[dict[str, Any]]:
    """Each schema below a document's components."""
    if isinstance(value, dict):
        yield value
        for key, below in value.items():
            if key == "properties":
                for one in below.values():
                    yield from every_schema(one)
            elif key in ("items", "additionalProperties"):
                yield from every_schema(below)
    if isinstance(value, dict):
        for key in ("anyOf", "allOf"):
            for one in value.get(key, []):
                yield from every_schema(one)


def references(value: Any) -> Iterator[str]:
    """Each reference in a document."""
    if isinstance(value, dict):
        for key, below in value.items():
            if key == "$ref":
                yield below
            else:
                yield from references(below)
    elif isinstance(value, list):
        for one in value:
            yield from references(one)


async def test_openapi_document_is_well_formed(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        api = await rig.json("/api/v1/openapi.json")
    assert re.fullmatch(r"3\.1\.\d", api["openapi"])
    assert api["info"].keys() >= {"title", "version"}
    names = []
    for path, methods in api["paths"].items():
        assert path.startswith("/")
        assert methods.keys() <= METHODS
        for operation in methods.values():
            names.append(operation["operationId"])
            declared = [one["name"] for one in operation.get("parameters", []) if one["in"] == "path"]
            assert declared == re.findall(r"{(\w+)}", path)
            for one in operation.get("parameters", []):
                assert one["in"] in ("path", "query")
                assert one.get("required", False) == (one["in"] == "path")
                assert one["schema"]["type"] in TYPES
            assert operation["responses"]
            for status, answer in operation["responses"].items():
                assert re.fullmatch(r"[2-5]\d\d", status)
                assert answer["description"]
            for scheme in operation.get("security", []):
                assert scheme.keys() <= api["components"]["securitySchemes"].keys()
    assert len(names) == len(set(names))
    for schema in api["components"]["schemas"].values():
        for one in every_schema(schema):
            assert one.keys() <= SCHEMA_KEYS, one.keys() - SCHEMA_KEYS
            assert one.get("type", "null") in TYPES
            assert set(one.get("required", [])) <= one.get("properties", {}).keys()
    for reference in references(api):
        place: Any = api
        assert reference.startswith("#/")
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


async def test_openapi_document_has_every_route(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        api = ApiV1(rig.service, EventFeed(rig.service))
        routes = {(route.method.lower(), route.path) for route in api.routes()}
        told = openapi_document(api.operations(), version="1")["paths"]
    described = {(method, path) for path, methods in told.items() for method in methods}
    assert routes - described == {("get", "/api/v1/openapi.json")}
    assert described <= routes


async def test_openapi_document_matches_responses(tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"]) as rig:
        api = await rig.json("/api/v1/openapi.json")
        await rig.json("/api/v1/cameras/left/captures", "POST", status=201)
        for path, methods in api["paths"].items():
            if "{" in path or "get" not in methods or path.endswith("/events"):
                continue
            answer = await rig.json(path)
            content = methods["get"]["responses"]["200"]["content"]["application/json"]
            schema = api["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
            assert schema["required"] if schema.get("required") else True
            assert set(schema.get("required", [])) <= answer.keys() <= schema["properties"].keys()


async def test_openapi_document_matches_refusals(tmp_path: Path) -> None:
    async with serving(tmp_path, token=TOKEN, max_requests=0) as rig:
        api = openapi_document(ApiV1(rig.service, EventFeed(rig.service)).operations(), version="1")
        for path, methods in api["paths"].items():
            for method, operation in methods.items():
                cases = [
                    ({"Host": "evil.example"}, 421),
                    ({}, 401),
                    ({"Authorization": f"Bearer {TOKEN}"}, 503),
                ]
                if method != "get":
                    cases.append(({"Origin": "http://evil.example"}, 403))
                for headers, status in cases:
                    if path == "/healthz" and status == 401:
                        continue
                    async with rig.http.request(method, path, headers=headers) as answer:
                        told = await answer.json(content_type=None)
                        assert (answer.status, told["status"]) == (status, status), path
                    said = operation["responses"][str(status)]["content"]
                    assert said.keys() == {answer.content_type} == {"application/problem+json"}


async def test_openapi_change_has_no_required_fields_or_defaults(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        schemas = (await rig.json("/api/v1/openapi.json"))["components"]["schemas"]
        paths = (await rig.json("/api/v1/openapi.json"))["paths"]
    change = paths["/api/v1/cameras/{name}"]["patch"]["requestBody"]["content"]["application/json"]["schema"]
    assert change == {"$ref": "#/components/schemas/CameraConfigChange"}
    assert schemas["CameraConfig"]["required"] == ["name", "device_path"]
    assert "required" not in schemas["CameraConfigChange"]
    assert schemas["CameraConfigChange"]["properties"].keys() == schemas["CameraConfig"]["properties"].keys()
    assert all("default" not in one for one in schemas["CameraConfigChange"]["properties"].values())
