"""What a simulated service refuses with: reasons, and each generation's number for them.

A table of its own, written from docs/protocols/mediamtx.md and not shared with the client's.
"""

from enum import Enum
from typing import Any, Final

from asynccam.systems.mediamtx.simulator.behavior import ServiceWays


class Why(Enum):
    """Reasons to refuse a call; the values are the service's words."""

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


class Refusal(Exception):  # noqa: N818 - it is the service's answer, not an error of this program
    """Ends a call with an error answer.

    Attributes:
        why: The reason.
        data: What the answer tells besides, or None.
        detail: Words of its own instead of the reason's.
    """

    def __init__(self, why: Why, data: Any = None, *, detail: str = "") -> None:
        super().__init__(detail or why.value)
        self.why = why
        self.data = data

    def document(self, ways: ServiceWays) -> dict[str, Any]:
        """The answer's ``error``."""
        document: dict[str, Any] = {"code": code_of(self.why, ways), "message": str(self)}
        if self.data is not None:
            document["data"] = self.data
        return document


_JSON_RPC: Final = {
    Why.UNREADABLE: -32700,
    Why.NOT_A_REQUEST: -32600,
    Why.NO_METHOD: -32601,
    Why.PARAMS: -32602,
    Why.INTERNAL: -32603,
    Why.SIGN_IN: -32001,
}
_GENERATION_1: Final = {**_JSON_RPC, Why.RATE: -32002, Why.ROLE: -32003}
_CODES: Final[dict[str, dict[Why, int]]] = {
    "seen": {
        **_GENERATION_1,
        Why.CAMERA: -1003,
        Why.FILE: -1005,
        Why.RECORDING: -1006,
        Why.STATE: -1003,
        Why.MEDIA: -1003,
        Why.STORAGE: -1003,
        Why.UNSUPPORTED: -1003,
    },
    "documented": {
        **_GENERATION_1,
        Why.CAMERA: -1000,
        Why.FILE: -1005,
        Why.RECORDING: -1002,
        Why.STATE: -1004,
        Why.MEDIA: -1003,
        Why.STORAGE: -1010,
        Why.UNSUPPORTED: -1001,
    },
    "older": {
        **_GENERATION_1,
        Why.CAMERA: -32004,
        Why.FILE: -32004,
        Why.RECORDING: -32005,
        Why.STATE: -32006,
        Why.MEDIA: -32006,
        Why.STORAGE: -32007,
        Why.UNSUPPORTED: -32008,
    },
}
_GENERATION_2: Final = {
    **_JSON_RPC,
    Why.RATE: -32040,
    Why.ROLE: -32002,
    Why.CAMERA: -32010,
    Why.FILE: -32010,
    Why.RECORDING: -32020,
    Why.STATE: -32020,
    Why.MEDIA: -32050,
    Why.STORAGE: -32050,
    Why.UNSUPPORTED: -32030,
}


def code_of(why: Why, ways: ServiceWays) -> int:
    """The number a service with these ways has for a reason."""
    return (_GENERATION_2 if ways.generation == 2 else _CODES[ways.codes])[why]
