"""What a message asks of a take: read strictly, with limits. See docs/mqtt.md."""

import json
from dataclasses import dataclass
from typing import Final

from asynccam.bridge.topics import OFF, ON
from asynccam.errors import UsageError

MAX_PAYLOAD: Final = 4096
LONGEST_START: Final = 3600.0
"""Seconds to T0: armed cameras hold a connection, and most keep it no longer."""
LONGEST_TAKE: Final = 604_800.0
"""Seconds from T0 to the end, a week."""


@dataclass(frozen=True, slots=True)
class TakeWish:
    """What a message asks of a take.

    Attributes:
        cameras: Keys or ids; empty for all.
        duration: Seconds until it ends by itself, or None for as long as nobody ends it.
        start_in: Seconds to T0.
        name: The take's name, or None.
    """

    cameras: tuple[str, ...] = ()
    duration: float | None = None
    start_in: float = 1.0
    name: str | None = None


def read_wish(payload: bytes) -> TakeWish | None:
    """What a payload asks for: a take, or None for the end of the one that runs.

    Raises:
        UsageError: It is none of ``ON``, ``OFF`` and a JSON object of the fields of `TakeWish`.
    """
    if len(payload) > MAX_PAYLOAD:
        raise UsageError(f"a command of {len(payload)} bytes is too long; {MAX_PAYLOAD} are allowed")
    if payload == ON.encode():
        return TakeWish()
    if payload == OFF.encode():
        return None
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise UsageError(f"a recording is commanded by {ON}, {OFF} or a JSON object")
    known = {"cameras", "duration", "start_in", "name"}
    if not document.keys() <= known:
        unknown = ", ".join(sorted(document.keys() - known))
        raise UsageError(f"a take has no {unknown}; it has {', '.join(sorted(known))}")
    cameras, name = document.get("cameras", []), document.get("name")
    if not isinstance(cameras, list) or not all(_is_text(one) for one in cameras):
        raise UsageError("cameras is a list of ids")
    if name is not None and not _is_text(name):
        raise UsageError("name is text")
    duration = document.get("duration")
    if duration is not None:
        duration = _seconds("duration", duration, LONGEST_TAKE)
    start_in = _seconds("start_in", document.get("start_in", 1.0), LONGEST_START)
    return TakeWish(tuple(cameras), duration, start_in, name)


def _is_text(value: object) -> bool:
    # JSON can write half of a surrogate pair, which no file name and no topic can carry.
    return isinstance(value, str) and not any("\ud800" <= one <= "\udfff" for one in value)


def _seconds(what: str, value: object, most: float) -> float:
    # Compared before it is converted: an integer of 400 digits is none that fits a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise UsageError(f"{what} is a number of seconds from 0 to {most:g}")
    return float(value)
