"""What every operation under ``/api/v1/`` does with a request: read its JSON, and say why it is refused."""

import functools
from typing import Any, Final

from aiohttp import web
from pydantic import TypeAdapter

from asynccam.errors import AsynccamError, TimeoutError
from asynccam.runtime.timing import deadline
from asynccam.systems.snapshot.server import json_position
from asynccam.systems.snapshot.server.answers import failed, problem
from asynccam.systems.snapshot.server.openapi import Handler
from asynccam.systems.snapshot.server.schemas import STATE_FIELDS, CameraFields, FieldProblem

_FIELDS: Final = TypeAdapter(CameraFields)
BODY_SECONDS: Final = 10.0
"""Within which a request's body has to be there."""
BODY_ERRORS: Final = {
    400: "The body is no JSON object.",
    413: "The body is too large.",
    415: "The body is not announced as JSON.",
    422: "A field is wrong; problems says which.",
}
"""What may be wrong with a body."""
SAVE_ERRORS: Final = {
    **BODY_ERRORS,
    409: "config.json is broken at the moment and has to be mended first.",
    507: "The disk refuses.",
}
"""What may keep a body from being saved."""


class RefusedError(Exception):
    """A request that is answered by this, from wherever it was found out."""

    def __init__(self, answer: web.Response) -> None:
        super().__init__()
        self.answer = answer


def typed(handler: Handler) -> Handler:
    """Answer the library's errors with problem objects."""

    @functools.wraps(handler)
    async def answered(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except RefusedError as refused:
            return refused.answer
        except AsynccamError as error:
            return failed(error)

    return answered


def invalid(problems: tuple[FieldProblem, ...]) -> web.Response:
    """The answer to fields that are wrong."""
    words = "; ".join(f"{one.field}: {one.message}" if one.field else one.message for one in problems)
    return problem(422, "invalid", words, problems=problems)


async def json_object(request: web.Request) -> dict[str, Any]:
    """The JSON object in a request's body.

    Raises:
        RefusedError: There is none, or not in time.
    """
    if request.content_type != "application/json":
        raise RefusedError(problem(415, "not_json", "The body has to be application/json."))
    try:
        async with deadline(BODY_SECONDS, "request body"):
            value = json_position.parse((await request.read()).decode())
    except TimeoutError as error:
        raise RefusedError(problem(408, "too_slow", str(error))) from None
    except (ValueError, RecursionError) as error:
        raise RefusedError(problem(400, "not_json", f"The body is no JSON: {error}")) from None
    if not isinstance(value, dict):
        raise RefusedError(problem(400, "not_json", "The body has to be a JSON object."))
    return value


async def camera_fields(request: web.Request) -> CameraFields:
    """A camera as a client sends it.

    Raises:
        RefusedError: The body is no JSON object.
    """
    fields = _FIELDS.validate_python(await json_object(request))
    # Who sends back what was answered means the camera, not what it did.
    return {key: value for key, value in fields.items() if key not in STATE_FIELDS}
