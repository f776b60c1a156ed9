"""Limits and policy of a media server."""

import hmac
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Final

from asynccam.errors import UsageError

MESSAGE_PORT: Final = 7200
"""TCP port of the messages in the maker's examples."""
MEDIA_PORT: Final = 5004
"""UDP port of the media in the maker's server."""


class WhenBusy(Enum):
    """Handling of a request while another client's capture has the camera.

    During a UDP stream the response is always `BUSY`, as of the original; its length is not known.
    """

    QUEUE = "queue"
    """The request waits for its turn, without a response, as in the original's backlog."""
    REFUSE = "refuse"
    """asynccam's clients get a refusal at once; the original's, which know none, are disconnected."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Limits of a `MediaServer`. Times are seconds.

    Attributes:
        connections: Number of clients; beyond that the one idle for longest is disconnected.
        per_address: Number of clients from one address.
        request: Bytes of one request.
        request_timeout: From a request's first byte to its last.
        idle_timeout: Between requests, while none is being carried out.
        waiting: Number of requests of all clients that wait for the camera.
        waiting_timeout: For the wait of one request.
        ahead: Number of requests a client may send while another of its own is carried out.
        duration: Of a video, extensions by ``reset_timer`` included.
        interval: Between two pictures.
        frames: Number of pictures of one request.
        size: Bytes of one video, which then ends, complete.
        width, height: Pixels of a picture.
        stall_timeout: Without progress of a response.
        reserve: Bytes of disk that stay free; with less, no file is begun.
        shutdown_timeout: For the running capture, when the server is closed.
    """

    connections: int = 32
    per_address: int = 16
    request: int = 16 * 1024
    request_timeout: float = 10.0
    idle_timeout: float = 300.0
    waiting: int = 16
    waiting_timeout: float = 600.0
    ahead: int = 4
    duration: float = 3600.0
    interval: float = 3600.0
    frames: int = 1000
    size: int = 8 << 30
    width: int = 3840
    height: int = 3840
    stall_timeout: float = 60.0
    reserve: int = 256 << 20
    shutdown_timeout: float = 30.0

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if not value > 0:
                raise UsageError(f"{limit.name} must be > 0, not {value}")


@dataclass(frozen=True, slots=True)
class ServerPolicy:
    """Whom a `MediaServer` serves, and in which order.

    Attributes:
        token: Token that asynccam's clients must send, or None. The original's protocol has none, so with a
            token the original's clients are disconnected.
        originals: Whether the original's clients are served; None if and only if there is no token.
        when_busy: Handling of requests while another client has the camera.
        override: Whether a client may end another client's capture, as at the original. If not, only
            clients at the same address may.

    Raises:
        UsageError: The token is empty.
    """

    token: str | None = field(default=None, repr=False)
    originals: bool | None = None
    when_busy: WhenBusy = WhenBusy.QUEUE
    override: bool = True

    def __post_init__(self) -> None:
        if self.token == "":
            raise UsageError("a token must not be empty")

    def admits_originals(self) -> bool:
        """Return whether requests without a token are served."""
        return self.token is None if self.originals is None else self.originals

    def admits(self, token: str | None) -> bool:
        """Return whether a token is right; takes the same time for every wrong one."""
        if self.token is None:
            return True
        return hmac.compare_digest((token or "").encode(), self.token.encode())
