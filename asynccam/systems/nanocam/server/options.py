"""What a media server puts up with, and how it deals with more clients than cameras."""

import hmac
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Final

from asynccam.errors import UsageError

MESSAGE_PORT: Final = 7200
"""TCP port of the messages in the maker's examples."""
MEDIA_PORT: Final = 5004
"""UDP port the original sends its media to."""


class WhenBusy(Enum):
    """What becomes of a request while another client's capture has the camera.

    A running UDP stream is always answered `BUSY`, as by the original; its length is not known.
    """

    QUEUE = "queue"
    """It waits its turn, without a word, as in the original's backlog."""
    REFUSE = "refuse"
    """Our own clients are told at once; the original's, who know no word for it, are closed."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What a `MediaServer` puts up with. Times are seconds.

    Attributes:
        connections: At once; beyond that the one idle for longest makes room.
        per_address: Of these from one address.
        request: Bytes of one request.
        request_timeout: From a request's first byte to its last.
        idle_timeout: Between requests, while nothing is being done for the client.
        waiting: Requests of all clients that wait for the camera.
        waiting_timeout: One may wait for the camera.
        ahead: Requests one client may send ahead while another of its own is carried out.
        duration: Of a video, extensions by ``reset_timer`` included.
        interval: Between two pictures.
        frames: Pictures of one request.
        size: Bytes of one video; it ends there, whole.
        width: Pixels of a picture.
        height: Pixels of a picture.
        stall_timeout: A client may take nothing of an answer.
        reserve: Bytes of disk that stay free: with less, no file is begun.
        shutdown_timeout: For the capture that runs, when the server is closed.
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
                raise UsageError(f"{limit.name} of a media server is above 0, not {value}")


@dataclass(frozen=True, slots=True)
class ServerPolicy:
    """Whom a `MediaServer` serves, and in which order.

    Attributes:
        token: What our own clients must show; None for no token. Anybody may speak the original's protocol,
            which has no place for one, so with a token the original's clients are closed.
        originals: Serve the original's clients all the same; None for whenever there is no token.
        when_busy: What becomes of requests while another client has the camera.
        override: Whether a client may end what another one has running, as the original allows everybody to.
            Without, only clients at the same address may.

    Raises:
        UsageError: The token is empty.
    """

    token: str | None = field(default=None, repr=False)
    originals: bool | None = None
    when_busy: WhenBusy = WhenBusy.QUEUE
    override: bool = True

    def __post_init__(self) -> None:
        if self.token == "":
            raise UsageError("a token is not empty")

    def admits_originals(self) -> bool:
        """Whether requests without a token are served."""
        return self.token is None if self.originals is None else self.originals

    def admits(self, token: str | None) -> bool:
        """Whether our own client may come in; takes the same time for every wrong token."""
        if self.token is None:
            return True
        return hmac.compare_digest((token or "").encode(), self.token.encode())
