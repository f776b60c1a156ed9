"""JSON-RPC 2.0 of the calling side, without I/O: frames in, events out.

A peer may send anything: answers out of order, twice or without a request, errors without an id, batches,
binary frames, text that is not JSON. Every frame gives events; none raises. What fits nothing is an
`UnexpectedMessage`, counted by kind, because a device that sends invalid messages now and then still works.

See docs/protocols/mediamtx.md.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic_core import from_json, to_json

from asynccam.errors import UsageError
from asynccam.outside import read_json

Params = dict[str, Any] | list[Any] | None

_NOTHING: Final = object()
_MAX_DIGITS: Final = 20
_MAX_DETAIL: Final = 200
_MAX_BATCH: Final = 1000
"""Answers and notifications in one array; requests are never sent in arrays."""


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to one of our requests; ``context`` is as given to `JsonRpcCodec.request`."""

    id: int
    value: Any
    context: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An error reply to one of our requests; ``context`` is as given to `JsonRpcCodec.request`."""

    id: int
    code: int  # -32603 if the peer gave none
    message: str
    data: Any = None
    context: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification, which expects no answer."""

    method: str
    params: Any = None


@dataclass(frozen=True, slots=True)
class UnexpectedMessage:
    """A frame, or a part of one, that fits nothing."""

    # not-json, not-an-object, unknown-id, error-without-id, no-content, bad-method, request or long-batch
    kind: str
    detail: str  # beginning of the message, for the log


Event = Result | ErrorReply | Notification | UnexpectedMessage


class JsonRpcCodec:
    """Numbers requests, keeps the unanswered ones, and decodes received frames."""

    def __init__(self) -> None:
        self._next = 1
        self._pending: dict[int, Any] = {}  # request id -> context
        self.unexpected: Counter[str] = Counter()  # messages that fitted nothing, by kind

    @property
    def pending(self) -> frozenset[int]:
        """Ids of the requests that have no answer yet."""
        return frozenset(self._pending)

    @property
    def contexts(self) -> Collection[Any]:
        """Contexts of the requests that have no answer yet, in the order of the requests."""
        return self._pending.values()

    def request(self, method: str, params: Params = None, *, context: Any = None) -> tuple[int, bytes]:
        """Return a request's id and its JSON document in UTF-8; it is unanswered from here on.

        ``context`` is any object; it comes with the answer.

        Raises:
            UsageError: The parameters cannot be JSON.
        """
        request_id = self._next
        self._next += 1
        body = _encode(method, params, request_id)
        self._pending[request_id] = context
        return request_id, body

    def forget(self, request_id: int) -> None:
        """Forget a request; an answer to it is unexpected."""
        self._pending.pop(request_id, None)

    def receive(
        self, frame: bytes | str, *, suspicious: bool | None = None
    ) -> tuple[Event] | Iterator[Event]:
        """Decode a received frame; never raises. ``suspicious`` as of `asynccam.outside.read_json`.

        Returns:
            Its event in a tuple, or the events of a batch, each of which is decoded when it is asked for.
        """
        try:
            document = read_json(frame, lenient=True, suspicious=suspicious)
        except ValueError:
            return (self._unexpected("not-json", frame),)
        if type(document) is dict:
            return (self._decode(document),)
        if type(document) is not list or not document:
            return (self._unexpected("not-an-object", document),)
        if len(document) > _MAX_BATCH:
            return (self._unexpected("long-batch", f"{len(document)} parts"),)
        return map(self._decode_part, document)

    def _decode_part(self, part: Any) -> Event:
        return self._decode(part) if type(part) is dict else self._unexpected("not-an-object", part)

    def _decode(self, document: dict[str, Any]) -> Event:
        method = document.get("method", _NOTHING)
        if method is not _NOTHING and "result" not in document and "error" not in document:
            if type(method) is not str:
                return self._unexpected("bad-method", document)
            if document.get("id") is not None:
                return self._unexpected("request", document)
            return Notification(method, document.get("params"))
        error = document.get("error")
        if error is None and "result" not in document:
            return self._unexpected("no-content", document)
        given = document.get("id")
        # JSON-RPC 2.0, 5: the id must be the same value. Some peers return a number as a string, which counts
        # as the same; True and 1.0 do not.
        request_id = given if type(given) is int else _number(given)
        context = self._pending.pop(request_id, _NOTHING)
        if context is _NOTHING:
            return self._unexpected(
                "error-without-id" if given is None and error is not None else "unknown-id", document
            )
        if error is None:
            return Result(request_id, document["result"], context)
        return _failure(request_id, context, error)

    def _unexpected(self, kind: str, what: object) -> UnexpectedMessage:
        self.unexpected[kind] += 1
        # Cut before it is quoted, too: quoting 20 MiB takes longer than parsing them.
        start = what[:_MAX_DETAIL] if isinstance(what, (str, bytes)) else what
        return UnexpectedMessage(kind, repr(start)[:_MAX_DETAIL])


def _number(given: object) -> int:
    """Return the id that is a number as text; no id of ours if it is anything else."""
    if type(given) is str and len(given) < _MAX_DIGITS and given.isascii() and given.isdecimal():
        return 0 if given[0] == "0" else int(given)
    return 0


def _failure(request_id: int, context: Any, error: Any) -> ErrorReply:
    if type(error) is not dict:
        text = error if type(error) is str else f"error {error!r}"[:500]
        return ErrorReply(request_id, -32603, text, context=context)
    code, message = error.get("code"), error.get("message")
    return ErrorReply(
        request_id,
        code if type(code) is int else -32603,
        message if type(message) is str else "",
        error.get("data"),
        context,
    )


def _encode(method: str, params: Params, request_id: int) -> bytes:
    document: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    if params is not None:
        document["params"] = params
    document["id"] = request_id
    try:
        body = to_json(document, inf_nan_mode="constants")
        if b"NaN" in body or b"Infinity" in body:  # a word in a string, or a number that JSON does not have
            from_json(body, allow_inf_nan=False)
        return body
    except (ValueError, TypeError) as error:
        raise UsageError(f"the parameters of {method} cannot be sent as JSON: {error}") from None
