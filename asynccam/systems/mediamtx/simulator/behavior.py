"""How a simulated MediaMTX Camera Service behaves: the ways of its generation, and trouble on purpose.

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
"""What always answers -32603 on one released version; for `ServiceFaults.inner_errors`."""


@dataclass(slots=True)
class ServiceWays:
    """What differs from one release to another; may be changed while the service runs.

    Make one with `of`, which knows each generation's defaults.

    Attributes:
        generation: 1 or 2: whose methods, camera names and answers.
        rate_limit: Calls a connection may make in ``rate_window``, or None for any number.
        rate_window: Seconds.
        max_connections: Connections beyond it are accepted and closed with 1013; None for any number.
        max_message: Bytes a request may have; the connection is closed with 1009 over it.
        codes: Whose error numbers generation 1 sends: those ``seen`` on a real server, those its
            manual has ``documented``, or those of ``older`` releases.
        serial: Calls of one connection are served one after the other.
        sign_in_fault: ``authenticate`` signs in the most recently connected client, whoever asked.
        failure_is_result: A failed ``authenticate`` is a result.
        token_per_call: Any call may carry ``auth_token``.
        expiry_sticks: Once a connection's token has expired, nothing signs that connection in again.
        reads_only_token: ``authenticate`` knows the token as ``token`` only, as older servers do.
        strict_sign_in: ``authenticate`` takes ``auth_token`` alone, and refuses more with -32602.
        notices: How notifications look: ``classic`` (``camera_status_update``), ``topic`` (the
            topic is the method) or ``wrapped`` (``event`` with ``topic`` and ``data``).
        notices_to_all: Notifications reach every connection, signed in or not; otherwise those that
            subscribed.
        notice_first: The notification of a call arrives before its answer.
        stuck_after_timed: A recording that ends by itself leaves its camera stuck, and its timer
            goes on after a stop by hand.
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
        """The ways of a generation, as seen on real servers.

        Raises:
            UsageError: There are generations 1 and 2.
        """
        if generation == 2:
            return cls(2)
        if generation != 1:
            raise UsageError(f"there are generations 1 and 2, not {generation}")
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
    """How the service misbehaves; may be changed while it runs. The default does nothing.

    Attributes:
        silent: Methods that are read, and neither carried out nor answered.
        inner_errors: Methods that always answer -32603; see `LISTING_FAULT`.
        cut_answers: Methods that are carried out, and whose connection goes in the middle of the answer;
            refusals come whole.
        answer_delay: Seconds by which every answer is late.
        answer_twice: Every answer is sent twice.
        binary: Answers are binary frames.
        garbage: Ahead of every answer goes what is no JSON, what answers nobody, and what is no object.
        string_ids: An answer's id is the request's, as text.
        metadata: Answers have ``metadata`` beside ``result``.
        storage_full: Pictures and recordings are refused for want of room.
        recorder_delay: Seconds by which a recorder starts later than its start is answered.
        cut_files_after: The file server breaks off after this many bytes of a body, or None.
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
