"""OpenAPI 3.1 from the operations themselves, so that the document cannot differ from the server."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from asynccam.systems.snapshot.server.answers import JSON, PROBLEM_JSON
from asynccam.systems.snapshot.server.schemas import ProblemDocument
from asynccam.systems.snapshot.server.settings import CameraConfig

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_REF: Final = "#/components/schemas/{model}"
_PLACEHOLDER: Final = re.compile(r"{(\w+)}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What an operation may answer.

    Attributes:
        words: When it does.
        model: Of its body, or None.
        content_type: Of its body.
    """

    words: str
    model: type[BaseModel] | None = None
    content_type: str = JSON


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path: its handler, and what the document says of it.

    Attributes:
        method: In capitals.
        path: With ``{placeholders}``.
        handler: Answers it.
        name: Unique.
        summary: One line.
        answers: By status; errors that any operation may answer are added by themselves.
        body: Of the request, or None.
        partial: Whether the body's fields may be left out.
        query: Name -> schema and words of a query parameter.
        errors: Statuses of problems, and when they come.
        open: Whether no token is needed.
    """

    method: str
    path: str
    handler: Handler
    name: str
    summary: str
    answers: Mapping[int, Answer]
    body: type[BaseModel] | None = None
    partial: bool = False
    query: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    errors: Mapping[int, str] = field(default_factory=dict)
    open: bool = False

    def route(self) -> web.RouteDef:
        """The operation for aiohttp's router."""
        if self.method == "GET":
            return web.get(self.path, self.handler)
        return web.route(self.method, self.path, self.handler)


def document(operations: Sequence[Operation], *, version: str) -> dict[str, Any]:
    """The OpenAPI document of some operations."""
    models: set[type[BaseModel]] = {ProblemDocument}
    for one in operations:
        models |= {answer.model for answer in one.answers.values() if answer.model is not None}
        models |= {one.body} if one.body is not None else set()
    wanted = sorted(models, key=lambda model: model.__name__)
    _, schemas = models_json_schema(
        [(model, "validation" if model is CameraConfig else "serialization") for model in wanted],
        ref_template=_REF,
    )
    for one in operations:
        if one.body is not None and one.partial:
            schemas["$defs"][_body_name(one)] = _partial(schemas["$defs"][one.body.__name__])
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "asynccam Snapshot server",
            "version": version,
            "summary": "Pictures from the cameras of this computer.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        # The document is at /api/v1/openapi.json, and relative places start there.
        "servers": [{"url": "../..", "description": "This server"}],
        "security": [{"token": []}, {"cookie": []}, {}],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "asynccam-snapshot"},
            },
        },
    }


def _operation(one: Operation) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PLACEHOLDER.findall(one.path)
    ]
    for name, schema in one.query.items():
        words = schema.get("description", "")
        parameters.append({"name": name, "in": "query", "description": words, "schema": dict(schema)})
    general = {421: "An unknown host name.", 503: "Too many requests at once."}
    if not one.open:
        general[401] = "The token is missing or wrong."
    if one.method != "GET":
        general[403] = "A page of another site asked."
    answers = {str(status): _answer(answer) for status, answer in one.answers.items()}
    for status, words in sorted({**general, **one.errors}.items()):
        answers[str(status)] = _answer(Answer(words, ProblemDocument, PROBLEM_JSON))
    said: dict[str, Any] = {"operationId": one.name, "summary": one.summary, "responses": answers}
    if parameters:
        said["parameters"] = parameters
    if one.body is not None:
        schema = {"$ref": _REF.format(model=_body_name(one))}
        said["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
    if one.open:
        said["security"] = []
    return said


def _answer(answer: Answer) -> dict[str, Any]:
    said: dict[str, Any] = {"description": answer.words}
    if answer.model is not None:
        said["content"] = {answer.content_type: {"schema": _ref(answer.model)}}
    elif answer.content_type != JSON:
        said["content"] = {answer.content_type: {"schema": {"type": "string"}}}
    return said


def _body_name(one: Operation) -> str:
    assert one.body is not None
    return f"{one.body.__name__}Change" if one.partial else one.body.__name__


def _partial(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of some of a model's fields: none is needed, and none that is left out means its default."""
    fields = {
        name: {key: value for key, value in field.items() if key != "default"}
        for name, field in schema["properties"].items()
    }
    more = {key: value for key, value in schema.items() if key != "required"}
    return more | {"title": f"{schema['title']}Change", "properties": fields}


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}
