"""Behavior of a simulated MediaMTX Camera Service: differences of releases, and faults.

See docs/protocols/mediamtx.md, "Seen on a real generation 1 server".
"""

from dataclasses import dataclass
from typing import Final, Literal

from asynccam.errors import UsageError

LISTING_FAULT: Final = frozenset(
    {
        "list_recordings",
        "get_recording_info",
        "get_snapshot_info",
        "delete_recording",
        "delete_snapshot",
        "get_storage_info",
    }
)
"""Methods that always fail with -32603 in one released version; for `ServiceFaults.inner_errors`."""


@dataclass(slots=True)
class ServiceWays:
    """Differences between releases; may be changed while the service runs. Made by `of`.

    Attributes:
        generation: 1 or 2: methods, camera names and replies.
        rate_limit: Calls per connection in ``rate_window``, or None for any number.
        rate_window: Seconds.
        max_connections: Connections beyond it are accepted and closed with 1013; None for any number.
        max_message: Bytes of a request; the connection is closed with 1009 beyond it.
        codes: Error codes of generation 1: ``seen`` on a real server, ``documented`` in its manual, or of
            ``older`` releases.
        serial: Calls of one connection are served one after the other.
        sign_in_fault: ``authenticate`` signs in the most recently connected client, regardless of the caller.
        failure_is_result: A failed ``authenticate`` is a result.
        token_per_call: Any call may carry ``auth_token``.
        expiry_sticks: Once a connection's token has expired, nothing signs that connection in again.
        reads_only_token: ``authenticate`` accepts the token as ``token`` only, as older servers do.
        strict_sign_in: ``authenticate`` accepts ``auth_token`` alone, and refuses more with -32602.
        notices: Format of notifications: ``classic`` (``camera_status_update``), ``topic`` (the
            topic is the method) or ``wrapped`` (``event`` with ``topic`` and ``data``).
        notices_to_all: Notifications are sent to every connection, signed in or not; otherwise to
            subscribers.
        notice_first: The notification of a call is sent before its response.
        stuck_after_timed: A recording that ends by itself leaves its camera stuck, and its timer
            continues after a stop.
        other_paths_1008: A WebSocket to another path is accepted and closed with 1008.
        empty_416: A 416 of the file server claims the file's length and has no body.
        number_times: Times are numbers, not ISO 8601 text.
        reader_list: ``readers`` is a list, not a number.
        stream_wait: Seconds a start waits for a stream that is not ready.
    """

    generation: int
    rate_limit: int | None = 1000
    rate_window: float = 60.0
    max_connections: int | None = 100
    max_message: int = 1024 * 1024
    codes: Literal["seen", "documented", "older"] = "seen"
    serial: bool = False
    sign_in_fault: bool = False
    failure_is_result: bool = False
    token_per_call: bool = False
    expiry_sticks: bool = False
    reads_only_token: bool = False
    strict_sign_in: bool = False
    notices: Literal["classic", "topic", "wrapped"] = "topic"
    notices_to_all: bool = False
    notice_first: bool = False
    stuck_after_timed: bool = False
    other_paths_1008: bool = False
    empty_416: bool = False
    number_times: bool = False
    reader_list: bool = False
    stream_wait: float = 15.0

    @classmethod
    def of(cls, generation: int) -> "ServiceWays":
        """Return a generation's behavior as seen on real servers; raise `UsageError` unless it is 1 or 2."""
        if generation == 2:
            return cls(2)
        if generation != 1:
            raise UsageError(f"generation must be 1 or 2, not {generation}")
        return cls(
            1,
            rate_limit=120,
            serial=True,
            sign_in_fault=True,
            failure_is_result=True,
            token_per_call=True,
            expiry_sticks=True,
            notices="classic",
            notices_to_all=True,
            notice_first=True,
            stuck_after_timed=True,
            other_paths_1008=True,
            empty_416=True,
        )


@dataclass(slots=True)
class ServiceFaults:
    """Faults of a service; may be changed while it runs. Default: none.

    Attributes:
        silent: Methods that are read, but neither executed nor answered.
        inner_errors: Methods that always fail with -32603; see `LISTING_FAULT`.
        cut_answers: Methods that are executed, and whose connection is lost in the middle of the result;
            errors are sent whole.
        answer_delay: Seconds before every response.
        answer_twice: Every response is sent twice.
        binary: Responses are binary frames.
        garbage: Every response is preceded by text that is not JSON, a response to no request, and an array.
        string_ids: A response's id is the request's as text.
        metadata: Responses have ``metadata`` beside ``result``.
        storage_full: Pictures and recordings are refused because the disk is full.
        recorder_delay: Seconds from the response to a start to the recorder's start.
        cut_files_after: The file server closes the connection after this many bytes of a body, or None.
    """

    silent: frozenset[str] = frozenset()
    inner_errors: frozenset[str] = frozenset()
    cut_answers: frozenset[str] = frozenset()
    answer_delay: float = 0.0
    answer_twice: bool = False
    binary: bool = False
    garbage: bool = False
    string_ids: bool = False
    metadata: bool = False
    storage_full: bool = False
    recorder_delay: float = 0.0
    cut_files_after: int | None = None
