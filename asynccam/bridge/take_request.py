"""Take requests: strict parsing of the payloads that start and stop a take. See docs/mqtt.md."""

import json
from dataclasses import dataclass, fields
from typing import Final

from asynccam.bridge.topics import OFF, ON
from asynccam.errors import UsageError

MAX_PAYLOAD: Final = 4096
MAX_START_IN: Final = 3600.0
"""Seconds to T0: armed cameras hold a connection, and most keep it no longer."""
MAX_DURATION: Final = 604_800.0
"""Seconds from T0 to the end, a week."""


@dataclass(frozen=True, slots=True)
class TakeRequest:
    """Take that a message asks for."""

    cameras: tuple[str, ...] = ()  # keys or ids; empty for all
    duration: float | None = None  # seconds from T0 to the stop, or None to record until a stop
    start_in: float = 1.0  # seconds to T0
    name: str | None = None


def parse_take_request(payload: bytes) -> TakeRequest | None:
    """Return the take that a payload asks for, or None for the end of the running one.

    Raises UsageError if it is not ``ON``, ``OFF`` or a JSON object with fields of `TakeRequest`.
    """
    if len(payload) > MAX_PAYLOAD:
        raise UsageError(f"a command of {len(payload)} bytes is too long; {MAX_PAYLOAD} are allowed")
    if payload == ON.encode():
        return TakeRequest()
    if payload == OFF.encode():
        return None
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise UsageError(f"a recording is commanded by {ON}, {OFF} or a JSON object")
    known = {field.name for field in fields(TakeRequest)}
    if not document.keys() <= known:
        unknown = ", ".join(sorted(document.keys() - known))
        raise UsageError(f"a take has no {unknown}; it has {', '.join(sorted(known))}")
    cameras, name = document.get("cameras", []), document.get("name")
    if not isinstance(cameras, list) or not all(map(_is_text, cameras)):
        raise UsageError("cameras is a list of ids")
    if name is not None and not _is_text(name):
        raise UsageError("name is text")
    duration = document.get("duration")
    if duration is not None:
        duration = _seconds("duration", duration, MAX_DURATION)
    start_in = _seconds("start_in", document.get("start_in", 1.0), MAX_START_IN)
    return TakeRequest(tuple(cameras), duration, start_in, name)


def _is_text(value: object) -> bool:
    # JSON can write half of a surrogate pair, which no file name and no topic can carry.
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def _seconds(name: str, value: object, maximum: float) -> float:
    # Compared before the conversion: an integer of 400 digits does not fit a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= maximum:
        raise UsageError(f"{name} is a number of seconds from 0 to {maximum:g}")
    return float(value)
