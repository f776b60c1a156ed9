"""Answers: JSON, HTML errors as the field has them, and problems as ``/api/v1/`` has them."""

import html
import json
from http import HTTPStatus
from typing import Any, Final

from aiohttp import hdrs, web
from pydantic import BaseModel

from asynccam.errors import (
    AsynccamError,
    BusyError,
    NotFoundError,
    RecordingError,
    StateError,
    StorageError,
    TimeoutError,
    UsageError,
)
from asynccam.systems.snapshot.server.schemas import FieldProblem, ProblemDocument

JSON: Final = "application/json"
PROBLEM_JSON: Final = "application/problem+json"
NO_STORE: Final = "no-store"
API_V1: Final = "/api/v1/"
HEALTH: Final = "/healthz"
RETRY_SECONDS: Final = "2"

_WORDS: Final = {
    400: "The server could not understand the request.",
    404: "The requested URL was not found on the server. If you entered the URL manually please check your "
    "spelling and try again.",
    405: "The method is not allowed for the requested URL.",
    413: "The data value transmitted exceeds the capacity limit.",
    415: "The server does not support the media type transmitted in the request.",
    500: "The server encountered an internal error and was unable to complete your request.",
    503: "The server has too much to do at the moment. Please try again soon.",
}
_KINDS: Final[tuple[tuple[type[AsynccamError], int, str], ...]] = (
    (NotFoundError, 404, "not_found"),
    (BusyError, 503, "busy"),
    (StateError, 409, "not_now"),
    (UsageError, 422, "invalid"),
    (TimeoutError, 504, "timeout"),
    (RecordingError, 502, "capture_failed"),
    (StorageError, 507, "storage"),
)
"""What an error of the library is to a client; the first that fits."""


def json_answer(value: Any, *, status: int = 200) -> web.Response:
    """A value as JSON."""
    text = value.model_dump_json() if isinstance(value, BaseModel) else json.dumps(value)
    return json_bytes(text.encode(), status=status)


def json_bytes(body: bytes, *, status: int = 200, content_type: str = JSON) -> web.Response:
    """JSON that is bytes already."""
    headers = {hdrs.CONTENT_TYPE: content_type, hdrs.CACHE_CONTROL: NO_STORE}
    return web.Response(body=body, status=status, headers=headers)


def status_of(error: AsynccamError) -> tuple[int, str]:
    """The HTTP status of an error, and its word for programs."""
    for kind, status, code in _KINDS:
        if isinstance(error, kind):
            return status, code
    return 502, "device"


def failed(error: AsynccamError) -> web.Response:
    """The problem object of an error."""
    status, code = status_of(error)
    return problem(status, code, str(error))


def problem(status: int, code: str, detail: str, *, problems: tuple[FieldProblem, ...] = ()) -> web.Response:
    """A problem object, see RFC 9457."""
    document = ProblemDocument(
        type=f"urn:asynccam:snapshot:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        problems=problems,
    )
    answer = json_bytes(document.model_dump_json().encode(), status=status, content_type=PROBLEM_JSON)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        answer.headers[hdrs.RETRY_AFTER] = RETRY_SECONDS
    return answer


def html_error(status: int, text: str = "") -> web.Response:
    """An error as a web framework shows it, which is what a client in the field knows."""
    name = HTTPStatus(status).phrase
    words = html.escape(text or _WORDS.get(status, name))
    body = (
        f"<!doctype html>\n<html lang=en>\n<title>{status} {name}</title>\n<h1>{name}</h1>\n<p>{words}</p>\n"
    )
    answer = web.Response(text=body, status=status, content_type="text/html")
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        answer.headers[hdrs.RETRY_AFTER] = RETRY_SECONDS
    return answer


def is_described(request: web.BaseRequest) -> bool:
    """Whether the OpenAPI document tells of a path, so that its errors are problems."""
    return request.path.startswith(API_V1) or request.path == HEALTH


def plain_error(request: web.BaseRequest, status: int, code: str, text: str = "") -> web.Response:
    """The error of a request that no handler took: a problem where one is described, HTML elsewhere."""
    if is_described(request):
        return problem(status, code, text or _WORDS.get(status, HTTPStatus(status).phrase))
    return html_error(status, text)
