"""Events as JSON, in one form for all systems. See docs/events.md."""

import dataclasses
import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any, Final

from asynccam.errors import RetryableError
from asynccam.model.events import Event
from asynccam.outside import MAX_DEPTH, clean_text, is_bounded

# JSON keeps the names it had when the classes were renamed.
_KINDS: Final[Mapping[str, list[str]]] = {
    "MissedEvents": ["Gap", "CameraEvent", "Event"],
    "ConnectionStateChanged": ["ConnectionStateChanged", "LinkStateChanged", "Event"],
}
_ALIASES: Final[Mapping[str, Mapping[str, str]]] = {"ConnectionStateChanged": {"server": "service"}}
"""Fields that JSON repeats under another name, by class: ThorVision's events had ``server``."""


def event_document(event: Event) -> dict[str, Any]:
    """Return an event as JSON values.

    Returns:
        ``event`` (its class), ``kinds`` (its class and base classes, down to ``Event``), ``at`` (Unix
        seconds), ``subject``, and every field of its own by name.
    """
    names = [kind.__name__ for kind in type(event).__mro__ if issubclass(kind, Event)]
    kinds = _KINDS.get(names[0], names)
    fields = {item.name: plain(getattr(event, item.name)) for item in dataclasses.fields(event)}
    fields |= {key: fields[name] for key, name in _ALIASES.get(names[0], {}).items()}
    return {"event": kinds[0], "kinds": kinds, "at": event.at, "subject": event.subject} | fields


def plain(value: Any, *, depth: int = MAX_DEPTH) -> Any:
    """Return a value of the library as JSON values.

    Text is cleaned (see `asynccam.outside`). Numbers that are not finite, integers of more than 64 bits, and
    values nested more than 200 deep become null.
    """
    if value is None or depth <= 0:
        return None
    if isinstance(value, str) and not isinstance(value, Enum):
        return clean_text(str(value))
    if isinstance(value, (int, float)) and not isinstance(value, Enum):
        return value if is_bounded(value) else None
    return _plain_object(value, depth - 1)


def _plain_object(value: Any, depth: int) -> Any:
    if _is_model(value):  # only fields that repr shows: others are secrets
        return {clean_text(name): plain(inner, depth=depth) for name, inner in value.__repr_args__() if name}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            item.name: plain(getattr(value, item.name), depth=depth)
            for item in dataclasses.fields(value)
            if item.repr
        }
    if isinstance(value, Enum):
        return plain(value.value, depth=depth)
    if isinstance(value, Mapping):
        return {clean_text(str(key)): plain(inner, depth=depth) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner, depth=depth) for inner in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(inner, depth=depth) for inner in value), key=repr)
    if isinstance(value, BaseException):
        message = " ".join(str(value).split()) or type(value).__name__
        return {
            "error": type(value).__name__,
            "message": clean_text(message),
            "retryable": isinstance(value, RetryableError),
        }
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode(errors="backslashreplace")
    return clean_text(str(value) if isinstance(value, PurePath) else repr(value))


def _is_model(value: Any) -> bool:
    # Not imported here: pydantic takes longer to load than the rest of a short command.
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(value, pydantic.BaseModel)
