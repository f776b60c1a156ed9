"""Reading of requests under ``/api/v1/``, and the error that refuses one."""

from typing import Any, Final

from aiohttp import web
from pydantic import TypeAdapter

from asynccam.errors import TimeoutError
from asynccam.runtime.timing import deadline
from asynccam.systems.snapshot.server import json_position
from asynccam.systems.snapshot.server.schemas import STATE_FIELDS, CameraFields, FieldProblem
from asynccam.systems.snapshot.server.settings import Problem

_FIELDS: Final = TypeAdapter(CameraFields)
BODY_TIMEOUT: Final = 10.0
"""Seconds for a request's body to arrive."""
BODY_ERRORS: Final = {
    400: "The body is not a JSON object.",
    413: "The body is too large.",
    415: "The body is not announced as JSON.",
    422: "A field is invalid; problems says which.",
}
"""Possible errors of a body."""
SAVE_ERRORS: Final = {
    **BODY_ERRORS,
    409: "config.json is invalid at the moment and must be fixed first.",
    507: "The disk refuses.",
}
"""Possible errors of a body that is saved."""


class RequestError(Exception):
    """A refused request: HTTP status, ``code`` for programs, message for people, and invalid fields."""

    def __init__(
        self, status: int, code: str, message: str, *, problems: tuple[FieldProblem, ...] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.problems = problems


def field_problems(problems: tuple[Problem, ...]) -> tuple[FieldProblem, ...]:
    """Return problems as the API shows them."""
    return tuple(map(FieldProblem.model_validate, problems))


def invalid_fields(problems: tuple[FieldProblem, ...]) -> RequestError:
    """Return the error of a request with invalid fields."""
    message = "; ".join(f"{one.field}: {one.message}" if one.field else one.message for one in problems)
    return RequestError(422, "invalid", message, problems=problems)


async def json_object(request: web.Request) -> dict[str, Any]:
    """Read the JSON object in a request's body.

    Raises:
        RequestError: The body is not a JSON object, or did not arrive in time.
    """
    if request.content_type != "application/json":
        raise RequestError(415, "not_json", "The body must be application/json.")
    try:
        async with deadline(BODY_TIMEOUT, "request body"):
            value = json_position.parse((await request.read()).decode())
    except TimeoutError as error:
        raise RequestError(408, "too_slow", str(error)) from None
    except (ValueError, RecursionError) as error:
        raise RequestError(400, "not_json", f"The body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise RequestError(400, "not_json", "The body must be a JSON object.")
    return value


async def camera_fields(request: web.Request) -> CameraFields:
    """Read a camera from a request's body.

    Raises:
        RequestError: The body is not a JSON object.
    """
    fields = _FIELDS.validate_python(await json_object(request))
    # A client may send back a camera as it was returned: its state is not saved.
    return {key: value for key, value in fields.items() if key not in STATE_FIELDS}
