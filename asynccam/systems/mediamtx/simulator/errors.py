"""Error replies of a simulated service: reasons, and their codes in each generation.

The tables were written from docs/protocols/mediamtx.md and are not shared with the client.
"""

from enum import Enum
from typing import Any, Final

from asynccam.systems.mediamtx.simulator.behavior import ServiceWays


class RefusalReason(Enum):
    """Reasons to refuse a call; the values are the service's messages."""

    UNREADABLE = "Parse error"
    NOT_A_REQUEST = "Invalid Request"
    NO_METHOD = "Method not found"
    PARAMS = "Invalid params"
    INTERNAL = "Internal error"
    SIGN_IN = "Authentication failed or token expired"
    RATE = "Rate limit exceeded"
    ROLE = "Insufficient permissions"
    CAMERA = "Camera not found"
    FILE = "File not found"
    RECORDING = "Recording in progress"
    STATE = "Not allowed in this state"
    MEDIA = "MediaMTX operation failed"
    STORAGE = "Storage space critical"
    UNSUPPORTED = "Capability not supported"


class RefusedCall(Exception):  # noqa: N818 - it is the service's reply, not an error of this program
    """Ends a call with an error reply; ``detail`` replaces the reason's message."""

    def __init__(self, reason: RefusalReason, data: Any = None, *, detail: str = "") -> None:
        super().__init__(detail or reason.value)
        self.reason = reason
        self.data = data

    def document(self, ways: ServiceWays) -> dict[str, Any]:
        """Return the ``error`` of the reply."""
        document: dict[str, Any] = {"code": code_of(self.reason, ways), "message": str(self)}
        if self.data is not None:
            document["data"] = self.data
        return document


_RELEASES: Final = ("seen", "documented", "older")
"""Releases of generation 1, see `ServiceWays.codes`."""
_CODES: Final[dict[RefusalReason, tuple[int, int, int, int]]] = {
    # Reason: code of each of the releases, and of generation 2.
    RefusalReason.UNREADABLE: (-32700, -32700, -32700, -32700),
    RefusalReason.NOT_A_REQUEST: (-32600, -32600, -32600, -32600),
    RefusalReason.NO_METHOD: (-32601, -32601, -32601, -32601),
    RefusalReason.PARAMS: (-32602, -32602, -32602, -32602),
    RefusalReason.INTERNAL: (-32603, -32603, -32603, -32603),
    RefusalReason.SIGN_IN: (-32001, -32001, -32001, -32001),
    RefusalReason.RATE: (-32002, -32002, -32002, -32040),
    RefusalReason.ROLE: (-32003, -32003, -32003, -32002),
    RefusalReason.CAMERA: (-1003, -1000, -32004, -32010),
    RefusalReason.FILE: (-1005, -1005, -32004, -32010),
    RefusalReason.RECORDING: (-1006, -1002, -32005, -32020),
    RefusalReason.STATE: (-1003, -1004, -32006, -32020),
    RefusalReason.MEDIA: (-1003, -1003, -32006, -32050),
    RefusalReason.STORAGE: (-1003, -1010, -32007, -32050),
    RefusalReason.UNSUPPORTED: (-1003, -1001, -32008, -32030),
}


def code_of(reason: RefusalReason, ways: ServiceWays) -> int:
    """Return a service's code for a reason."""
    return _CODES[reason][3 if ways.generation == 2 else _RELEASES.index(ways.codes)]
