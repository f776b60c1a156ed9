"""Text for the log: bounded, on one line, and without secrets. See docs/troubleshooting.md."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final

HIDDEN: Final = "***"
"""Replacement of a secret."""
MAX_TEXT: Final = 500
"""Characters of one logged value; more is cut off."""

_SECRET_KEY: Final = re.compile(
    r"token|password|passphrase|passwd|secret|(?:api|access)[-_]?key|signature|authorization|credential|cookie|jwt|user-pw|user_pw",
    re.IGNORECASE,
)
_RULES: Final = (
    # RFC 3986, 3.2.1: user and password stand before the host.
    (re.compile(r"(?<=://)[^/\s@]+@"), f"{HIDDEN}@"),
    # A presigned address is a secret; every storage service calls the parameter otherwise.
    (re.compile(r"((?:https?|wss?|rtsps?)://[^\s\"'?]+\?)[^\s\"']+"), rf"\1{HIDDEN}"),
    # RFC 7519, 3.1: a JSON Web Token begins with a Base64url-encoded "{".
    (re.compile(r"eyJ[\w-]{5,}+(?:\.[\w-]*){1,4}"), HIDDEN),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{4,}"), rf"\1 {HIDDEN}"),
    (
        re.compile(
            rf"(?i)((?:{_SECRET_KEY.pattern})[\w-]{{0,40}}[\"']?\s{{0,9}}[=:]\s{{0,9}})"
            r"(\"(?:[^\"\\]|\\.)*\"?|'(?:[^'\\]|\\.)*'?|\[[^\]]*\]?|\{[^}]*\}?|[^\s,;&\"']+)"
        ),
        rf"\1{HIDDEN}",
    ),
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_MAX_ITEMS: Final = 20
_MAX_DEPTH: Final = 6
_MAX_VALUES: Final = 200
"""Parts of one value that are shown: a peer's message must not hold up the event loop."""
_MAX_NUMBER: Final = 1 << 64


def loggable(value: object) -> str:
    """Return a value as text for the log.

    Values of keys that name a secret, tokens inside of text and user information in addresses are replaced by
    `HIDDEN`. Bytes are counted, not shown.

    Args:
        value: A JSON value, text, bytes or any other object, which is shown by its ``str``.

    Returns:
        One line of at most `MAX_TEXT` characters.
    """
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping | list | tuple):
        return _cut(json.dumps(_Simplifier().plain(value, _MAX_DEPTH), ensure_ascii=False))
    return str(_Simplifier().plain(value, _MAX_DEPTH))


def loggable_json(document: bytes) -> str:
    """Return a JSON document as `loggable` returns its value; what is not JSON, or is long, as text."""
    if len(document) <= 4 * MAX_TEXT:
        try:
            return loggable(json.loads(document))
        except (ValueError, RecursionError):
            pass  # the text is shown
    return loggable(document[: 4 * MAX_TEXT].decode(errors="replace"))


def loggable_command(arguments: Sequence[str]) -> str:
    """Return a program's command line as text for the log, quoted so that a shell accepts it.

    An argument that follows an option that names a secret is replaced too. Text over `MAX_TEXT` characters is
    kept up to eight times that, because pipelines are long.
    """
    words: list[str] = []
    hide_next = False
    for argument in arguments:
        words.append(HIDDEN if hide_next else shlex.quote(_redacted(argument)))
        hide_next = argument.startswith("-") and "=" not in argument and bool(_SECRET_KEY.search(argument))
    return _cut(" ".join(words), MAX_TEXT * 8)


class _Simplifier:
    """Makes one value plain, up to `_MAX_VALUES` of its parts."""

    def __init__(self) -> None:
        self._left = _MAX_VALUES

    def plain(self, value: object, depth: int) -> object:
        self._left -= 1
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _MAX_NUMBER:
            return "<large number>"  # Python refuses to write one of over 4,300 digits
        if isinstance(value, bool | int | float | None):
            return value
        if isinstance(value, bytes | bytearray | memoryview):
            return f"<{len(value)} bytes>"
        if isinstance(value, Mapping | list | tuple) and (depth == 0 or self._left <= 0):
            return "..."
        if isinstance(value, Mapping):
            shown: dict[str, object] = {}
            for key, item in islice(value.items(), _MAX_ITEMS):
                hidden = item not in (None, "") and _SECRET_KEY.search(str(key)) is not None
                shown[_text(str(key))] = HIDDEN if hidden else self.plain(item, depth - 1)
            return {**shown, "...": f"{len(value) - _MAX_ITEMS} more"} if len(value) > _MAX_ITEMS else shown
        if isinstance(value, list | tuple):
            items = [self.plain(item, depth - 1) for item in value[:_MAX_ITEMS]]
            return [*items, f"{len(value) - _MAX_ITEMS} more"] if len(value) > _MAX_ITEMS else items
        return _text(str(value))


def _text(value: str) -> str:
    # Cut before the search, so that a value of megabytes costs nothing, and once more after it.
    return _cut(_redacted(value[: 4 * MAX_TEXT]))


def _redacted(text: str) -> str:
    text = _CONTROL.sub(" ", text)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def _cut(text: str, most: int = MAX_TEXT) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
