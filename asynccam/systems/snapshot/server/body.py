"""Bodies of requests: small, there in time, and JSON that can be kept."""

from typing import Any, Final

from aiohttp import web
from pydantic import TypeAdapter

from asynccam.errors import TimeoutError
from asynccam.runtime.timing import deadline
from asynccam.systems.snapshot.server import positions
from asynccam.systems.snapshot.server.answers import problem
from asynccam.systems.snapshot.server.documents import STATE_FIELDS, CameraFields

BODY_SECONDS: Final = 10.0
"""Within which a request's body has to be there."""
_FIELDS: Final = TypeAdapter(CameraFields)


class RefusedError(Exception):
    """A request that is answered by this, from wherever it was found out.

    Attributes:
        answer: The answer.
    """

    def __init__(self, answer: web.Response) -> None:
        super().__init__()
        self.answer = answer


async def camera_fields(request: web.Request) -> CameraFields:
    """A camera as a client sends it.

    Raises:
        RefusedError: The body is no JSON object.
    """
    fields = _FIELDS.validate_python(await json_object(request))
    # Who sends back what was answered means the camera, not what it did.
    return {key: value for key, value in fields.items() if key not in STATE_FIELDS}


async def json_object(request: web.Request) -> dict[str, Any]:
    """The JSON object in a request's body.

    Raises:
        RefusedError: There is none.
    """
    if request.content_type != "application/json":
        raise RefusedError(problem(415, "not_json", "The body has to be application/json."))
    try:
        async with deadline(BODY_SECONDS, "request body"):
            value = positions.parse((await request.read()).decode())
    except TimeoutError as error:
        raise RefusedError(problem(408, "too_slow", str(error))) from None
    except (ValueError, RecursionError) as error:
        raise RefusedError(problem(400, "not_json", f"The body is no JSON: {error}")) from None
    if not isinstance(value, dict):
        raise RefusedError(problem(400, "not_json", "The body has to be a JSON object."))
    return value
