"""OpenAPI 3.1 document, generated from the operations that the server has."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from asynccam.systems.snapshot.server.schemas import JSON, PROBLEM_JSON, ProblemDocument
from asynccam.systems.snapshot.server.settings import CameraConfig

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
F = TypeVar("F", bound=Callable[..., Awaitable[web.StreamResponse]])

_ATTRIBUTE: Final = "openapi_operation"
_REF: Final = "#/components/schemas/{model}"
_PLACEHOLDER: Final = re.compile(r"{(\w+)}")


@dataclass(frozen=True, slots=True)
class ResponseSpec:
    """A response of an operation; ``model`` describes its body, if any."""

    description: str
    model: type[BaseModel] | None = None
    content_type: str = JSON


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path: its handler and its description; ``name`` is its ``operationId``.

    The errors that every operation has are added to ``responses`` and ``errors``. All fields of a ``partial``
    body may be left out. An ``open`` operation needs no token.
    """

    method: str
    path: str
    handler: Handler
    name: str
    summary: str
    responses: Mapping[int, ResponseSpec]
    body: type[BaseModel] | None = None
    partial: bool = False
    query: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    errors: Mapping[int, str] = field(default_factory=dict)
    open: bool = False

    def route(self) -> web.RouteDef:
        """Return the route of the operation."""
        if self.method == "GET":  # which aiohttp answers for HEAD too
            return web.get(self.path, self.handler)
        return web.route(self.method, self.path, self.handler)


def operation(
    route: str, name: str, responses: type[BaseModel] | Mapping[int, ResponseSpec], **described: Any
) -> Callable[[F], F]:
    """Describe a handler as an operation; its docstring is the summary.

    ``route`` is method and path. ``responses`` may be the model of the only one, with status 200.
    ``described`` are further fields of `Operation`.
    """
    method, path = route.split()

    def describe(handler: F) -> F:
        summary = handler.__doc__ or ""
        specs = responses if isinstance(responses, Mapping) else {200: ResponseSpec(summary, responses)}
        setattr(handler, _ATTRIBUTE, Operation(method, path, handler, name, summary, specs, **described))
        return handler

    return describe


def operations_of(api: object) -> tuple[Operation, ...]:
    """Return the operations of an object, in the order of their definition."""
    return tuple(
        replace(getattr(function, _ATTRIBUTE), handler=getattr(api, name))
        for name, function in vars(type(api)).items()
        if hasattr(function, _ATTRIBUTE)
    )


def openapi_document(operations: Sequence[Operation], *, version: str) -> dict[str, Any]:
    """Return the OpenAPI document of the operations."""
    models: set[type[BaseModel]] = {ProblemDocument}
    for operation in operations:
        models |= {spec.model for spec in operation.responses.values() if spec.model is not None}
        models |= {operation.body} if operation.body is not None else set()
    wanted = sorted(models, key=_schema_name)
    _, document = models_json_schema(
        [(model, "validation" if model is CameraConfig else "serialization") for model in wanted],
        ref_template=_REF,
    )
    schemas = document["$defs"]
    for model in wanted:
        schemas[_schema_name(model)] = schemas.pop(model.__name__)
    for operation in operations:
        if operation.body is not None and operation.partial:
            schemas[_body_name(operation)] = _partial(schemas[_schema_name(operation.body)])
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "asynccam Snapshot server",
            "version": version,
            "summary": "Pictures from the cameras of this computer.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        # Relative to the document, which is /api/v1/openapi.json.
        "servers": [{"url": "../..", "description": "This server"}],
        "security": [{"token": []}, {"cookie": []}, {}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "asynccam-snapshot"},
            },
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PLACEHOLDER.findall(operation.path)
    ]
    for name, schema in operation.query.items():
        description = schema.get("description", "")
        parameters.append({"name": name, "in": "query", "description": description, "schema": dict(schema)})
    errors = {421: "An unknown host name.", 503: "Too many requests at once."}
    if not operation.open:
        errors[401] = "The token is missing or wrong."
    if operation.method != "GET":
        errors[403] = "A page of another site asked."
    responses = {str(status): _response(spec) for status, spec in operation.responses.items()}
    for status, description in sorted({**errors, **operation.errors}.items()):
        responses[str(status)] = _response(ResponseSpec(description, ProblemDocument, PROBLEM_JSON))
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": responses,
    }
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        schema = {"$ref": _REF.format(model=_body_name(operation))}
        described["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
    if operation.open:
        described["security"] = []
    return described


def _response(spec: ResponseSpec) -> dict[str, Any]:
    described: dict[str, Any] = {"description": spec.description}
    if spec.model is not None:
        ref = {"$ref": _REF.format(model=_schema_name(spec.model))}
        described["content"] = {spec.content_type: {"schema": ref}}
    elif spec.content_type != JSON:
        described["content"] = {spec.content_type: {"schema": {"type": "string"}}}
    return described


def _schema_name(model: type[BaseModel]) -> str:
    """Return the title of a model, if it has one: a published name outlives that of a class."""
    return model.model_config.get("title") or model.__name__


def _body_name(operation: Operation) -> str:
    assert operation.body is not None
    name = _schema_name(operation.body)
    return f"{name}Change" if operation.partial else name


def _partial(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema without required fields and defaults: a field left out is not changed."""
    fields = {
        name: {key: value for key, value in field.items() if key != "default"}
        for name, field in schema["properties"].items()
    }
    more = {key: value for key, value in schema.items() if key != "required"}
    return more | {"title": f"{schema['title']}Change", "properties": fields}
