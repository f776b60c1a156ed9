"""JSON-RPC 2.0 seen from the calling side, without I/O: frames in, events out.

A peer may send anything at all: answers out of order, twice, or to nobody, errors without an id,
batches, binary frames, text that is not JSON. Every frame gives events; none raises.
What fits nothing is an `UnexpectedMessage`, counted by kind, because a device that talks nonsense now and
then is still a device.

See docs/protocols/mediamtx.md.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic_core import from_json, to_json

from asynccam.errors import UsageError
from asynccam.outside import read_json

Id = int | str
Params = dict[str, Any] | list[Any] | None

_NOTHING: Final = object()
_MOST_IN_BATCH: Final = 1000
"""Answers and notifications in one array; we never send arrays, and work on one message is bounded."""


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to one of our requests.

    Attributes:
        id: The request's id, as we sent it.
        value: What the peer answered; any JSON value.
        metadata: What the peer sent beside ``result`` under ``metadata``, or None.
        context: As given to `JsonRpcCodec.request`.
    """

    id: Id
    value: Any
    metadata: Any = None
    context: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """The peer's refusal of one of our requests.

    Attributes:
        id: The request's id, as we sent it.
        code: The peer's number for the error; -32603 if it gave none.
        message: The peer's words.
        data: Whatever else it told, or None.
        context: As given to `JsonRpcCodec.request`.
    """

    id: Id
    code: int
    message: str
    data: Any = None
    context: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification: the peer tells something and wants no answer."""

    method: str
    params: Any = None


@dataclass(frozen=True, slots=True)
class UnexpectedMessage:
    """A frame, or a part of one, that fits nothing.

    Attributes:
        kind: ``not-json``, ``not-an-object``, ``unknown-id``, ``error-without-id``, ``no-content``,
            ``bad-method``, ``request`` or ``long-batch``.
        detail: For the log; the beginning of what came.
    """

    kind: str
    detail: str


Event = Result | ErrorResponse | Notification | UnexpectedMessage


class JsonRpcCodec:
    """Numbers requests, knows which are unanswered, and tells what a received frame means.

    Attributes:
        oddities: How many frames fitted nothing, by kind.
    """

    def __init__(self) -> None:
        self._next = 1
        self._pending: dict[str, tuple[Id, Any]] = {}
        self.unexpected: Counter[str] = Counter()

    @property
    def pending(self) -> frozenset[Id]:
        """Ids of the requests that have no answer yet."""
        return frozenset(own_id for own_id, _ in self._pending.values())

    @property
    def contexts(self) -> tuple[Any, ...]:
        """Contexts of the requests that have no answer yet, oldest first."""
        return tuple(context for _, context in self._pending.values())

    def request(
        self, method: str, params: Params = None, *, own_id: Id | None = None, context: Any = None
    ) -> tuple[Id, bytes]:
        """Number a request and write it down; it counts as unanswered from here on.

        Args:
            method: The remote method.
            params: By name, by place, or None to leave them out.
            own_id: An id of the caller's own choice; by default the next number.
            context: Any object; comes back with the answer.

        Returns:
            The id, and the request as one UTF-8 JSON document.

        Raises:
            UsageError: The parameters cannot be JSON, or the id is taken.
        """
        if own_id is None:
            own_id = self._next
            self._next += 1
        if str(own_id) in self._pending:
            raise UsageError(f"request id {own_id!r} is taken")
        body = _encode(method, params, own_id)
        self._pending[str(own_id)] = own_id, context
        return own_id, body

    def notification(self, method: str, params: Params = None) -> bytes:
        """Write down a notification, which has no answer.

        Raises:
            UsageError: The parameters cannot be JSON.
        """
        return _encode(method, params, _NOTHING)

    def forget(self, request_id: Id) -> None:
        """Give up on a request; its answer, should it come, is an oddity."""
        self._pending.pop(str(request_id), None)

    def receive(
        self, frame: bytes | bytearray | memoryview | str, *, suspicious: bool | None = None
    ) -> list[Event]:
        """Tell what one received frame means; never raises, whatever it holds.

        Args:
            frame: As it came.
            suspicious: See `asynccam.outside.read_json`.
        """
        try:
            data = bytes(frame) if isinstance(frame, memoryview) else frame
            document = read_json(data, lenient=True, suspicious=suspicious)
        except ValueError:
            return [self._odd("not-json", frame)]
        if type(document) is dict:
            return [self._one(document)]
        if type(document) is list and len(document) > _MOST_IN_BATCH:
            return [self._odd("long-batch", f"{len(document)} parts")]
        if type(document) is list and document:
            return [
                self._one(part) if type(part) is dict else self._odd("not-an-object", part)
                for part in document
            ]
        return [self._odd("not-an-object", document)]

    def _one(self, document: dict[str, Any]) -> Event:
        method = document.get("method", _NOTHING)
        if method is not _NOTHING and "result" not in document and "error" not in document:
            if type(method) is not str:
                return self._odd("bad-method", document)
            if document.get("id") is not None:
                return self._odd("request", document)
            return Notification(method, document.get("params"))
        error = document.get("error")
        if error is None and "result" not in document:
            return self._odd("no-content", document)
        given = document.get("id")
        # Some peers hand a number back as a string; an id is ours if it reads the same.
        # (bool is excluded: True would read as nothing we send, 1.0 as "1.0".)
        own = self._pending.pop(str(given), None) if type(given) in (int, str) else None
        if own is None:
            return self._odd(
                "error-without-id" if given is None and error is not None else "unknown-id", document
            )
        if error is None:
            return Result(own[0], document["result"], document.get("metadata"), own[1])
        return _failure(*own, error)

    def _odd(self, kind: str, what: object) -> UnexpectedMessage:
        self.unexpected[kind] += 1
        return UnexpectedMessage(
            kind, repr(what)[:200] if not isinstance(what, memoryview) else repr(bytes(what[:200]))
        )


def _failure(request_id: Id, context: Any, error: Any) -> ErrorResponse:
    if type(error) is not dict:
        text = error if type(error) is str else f"error {error!r}"[:500]
        return ErrorResponse(request_id, -32603, text, context=context)
    code, message = error.get("code"), error.get("message")
    return ErrorResponse(
        request_id,
        code if type(code) is int else -32603,
        message if type(message) is str else "",
        error.get("data"),
        context,
    )


def _encode(method: str, params: Params, request_id: object) -> bytes:
    document: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    if params is not None:
        document["params"] = params
    if request_id is not _NOTHING:
        document["id"] = request_id
    try:
        body = to_json(document, inf_nan_mode="constants")
        if b"NaN" in body or b"Infinity" in body:  # a word in a string, or a number JSON does not have
            from_json(body, allow_inf_nan=False)
        return body
    except (ValueError, TypeError) as error:
        raise UsageError(f"the parameters of {method} cannot be sent as JSON: {error}") from None
