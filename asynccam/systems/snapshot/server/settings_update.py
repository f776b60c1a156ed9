"""Which settings may be changed over the web, and what is wrong with a change. See docs/snapshot-server.md.

Never where a secret is read from: whoever reaches the page could have any file's first line sent to a
broker of their choice. For the same reason a broker that gets a password is changed by hand only.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from asynccam.systems.snapshot.server.settings import SECRETS, Problem, check_group

CHANGEABLE: Final[Mapping[str, tuple[str, ...]]] = {
    "retention": ("max_age_days", "max_size_mb"),
    "imu": ("enabled", "broker", "port", "topic", "max_age", "username"),
    "limits": ("captures", "waiting"),
}
"""Group -> its settings that may be changed over the web."""
_HELD: Final = ("broker", "port")
_PASSWORD: Final = ("password_file", "password_env")
_BY_HAND: Final = "is changed by hand, in the configuration file"
_TOPIC: Final = re.compile(r"([^/+#]*|\+)(/([^/+#]*|\+))*((^|/)#)?")
_KEPT: Final = "a password goes to this broker, so it is changed by hand, in the configuration file"


def _is_host(text: str) -> bool:
    return not any(letter.isspace() or letter in "/@?#[]" for letter in text)


_FURTHER: Final[Mapping[tuple[str, str], tuple[Callable[[str], object], str]]] = {
    ("imu", "broker"): (_is_host, "a broker is a host name or an address, without mqtt:// and port"),
    ("imu", "topic"): (
        _TOPIC.fullmatch,
        "+ stands for one whole level of a topic, # for all that follow, at its end",
    ),
}
"""What would be found out by the broker only, long after it was typed."""


def changed_settings(
    document: Mapping[str, Any], changes: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[Problem, ...]]:
    """The groups of a configuration with changes put in, and everything that is wrong with these.

    Args:
        document: The configuration as it stands in the file.
        changes: Group -> setting -> value as a form or a program gives it; nothing (null, or a text that
            is blank) stands for the default.
    """
    groups: dict[str, Any] = {}
    problems: list[Problem] = []
    for key, wanted in changes.items():
        if key not in CHANGEABLE:
            problems.append(Problem(_BY_HAND, key))
        elif not isinstance(wanted, Mapping):
            problems.append(Problem("should be an object", key))
        else:
            groups[key], found = _changed_group(key, document.get(key), wanted)
            problems += found
    return {key: group for key, group in groups.items() if group or key in document}, tuple(problems)


def _changed_group(
    key: str, before: object, wanted: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Problem]]:
    raw: dict[str, Any] = dict(before) if isinstance(before, Mapping) else {}
    problems = [Problem(_BY_HAND, f"{key}.{one}") for one in wanted if one not in CHANGEABLE[key]]
    values = {one: _cleaned(value) for one, value in wanted.items() if one in CHANGEABLE[key]}
    merged = {one: value for one, value in {**raw, **values}.items() if value is not None}
    group, found = check_group(key, {one: value for one, value in merged.items() if one not in SECRETS})
    problems += found
    problems += [
        Problem(words, f"{key}.{one}")
        for (of, one), (right, words) in _FURTHER.items()
        if of == key and values.get(one) is not None and not right(getattr(group, one))
    ]
    if any(raw.get(one) for one in _PASSWORD):
        was, _ = check_group(key, {one: value for one, value in raw.items() if one not in SECRETS})
        problems += [
            Problem(_KEPT, f"{key}.{one}")
            for one in _HELD
            if one in values and getattr(group, one) != getattr(was, one)
        ]
    default, _ = check_group(key, {})
    for one, value in values.items():
        if value is None:
            raw.pop(one, None)
        elif one in raw or getattr(group, one) != getattr(default, one):
            raw[one] = _plain(getattr(group, one))
    return raw, problems


def _cleaned(value: Any) -> Any:
    return (value.strip() or None) if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    """30 rather than 30.0, as a person would have written it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
