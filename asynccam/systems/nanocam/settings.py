"""Settings of a camera: each has a type, a range and a default, and is checked when it is set."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Generic, TypeVar, overload

from asynccam.errors import UsageError

T = TypeVar("T")
E = TypeVar("E", bound=Enum)


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """What a setting may be.

    Attributes:
        range: Its type and range, in words.
        read: Makes a value of it, or raises `ValueError` or `TypeError`.
    """

    range: str
    read: Callable[[object], T]


class Setting(Generic[T]):
    """One setting, as a descriptor of a `Settings` class: unset, it reads as its default; None unsets it.

    Args:
        kind: What it may be.
        default: Its value when it is not set.
        doc: What it does.
        gst: Its name as a property of ``nvarguscamerasrc``, or ``""`` for one of asynccam's own.

    Attributes:
        name: Its name.
        gst, kind, default: As given.
    """

    name: str

    def __init__(self, kind: Kind[T], default: T, doc: str, *, gst: str = "") -> None:
        self.kind = kind
        self.default = default
        self.gst = gst
        self.__doc__ = f"{doc} ({kind.range}; default {default})"

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, settings: None, owner: type) -> "Setting[T]": ...

    @overload
    def __get__(self, settings: "Settings", owner: type) -> T: ...

    def __get__(self, settings: "Settings | None", owner: type) -> "Setting[T] | T":
        if settings is None:
            return self
        value: T = settings.changed.get(self.name, self.default)
        return value

    def __set__(self, settings: "Settings", value: object) -> None:
        settings.change({self.name: value})

    def check(self, value: object) -> T:
        """The value, made what it should be.

        Raises:
            UsageError: It is of another type, or out of range.
        """
        try:
            return self.kind.read(value)
        except (ValueError, TypeError, OverflowError, ArithmeticError):
            raise UsageError(f"{self.name} is {self.kind.range}, not {value!r}") from None


class Settings:
    """Settings that are checked when they are set, together or one by one."""

    def __init__(self, **settings: object) -> None:
        self._changed: dict[str, Any] = {}
        self.change(settings)

    @property
    def changed(self) -> Mapping[str, Any]:
        """What is set, by name; the rest has its default."""
        return MappingProxyType(self._changed)

    @classmethod
    def settings(cls) -> Mapping[str, Setting[Any]]:
        """Every setting there is, by name, with its range and default."""
        found = {name: one for base in reversed(cls.__mro__) for name, one in vars(base).items()}
        return {name: one for name, one in found.items() if isinstance(one, Setting)}

    def change(self, settings: Mapping[str, object]) -> None:
        """Set several, all or none of them; None unsets.

        Raises:
            UsageError: There is no such setting, or one is not what it may be.
        """
        known = self.settings()
        changed = dict(self._changed)
        for name, value in settings.items():
            if name not in known:
                raise UsageError(f"no setting {name!r}; there are {', '.join(known)}")
            changed.pop(name, None)
            if value is not None:
                changed[name] = known[name].check(value)
        self._agree(changed)
        self._changed = changed

    def _agree(self, changed: Mapping[str, Any]) -> None:
        """Refuse settings that exclude each other."""


def whole(low: int, high: int) -> Kind[int]:
    """An integer, also written as text."""

    def read(value: object) -> int:
        number = _whole(value)
        if not low <= number <= high:
            raise ValueError
        return number

    return Kind(f"a whole number from {low} to {high}", read)


def real(low: float, high: float) -> Kind[float]:
    """A finite number, also written as text."""

    def read(value: object) -> float:
        number = _real(value)
        if not low <= number <= high:
            raise ValueError
        return number

    return Kind(f"a number from {low:g} to {high:g}", read)


def flag() -> Kind[bool]:
    """True or false, also written as text or as 1 and 0."""
    words = {"true": True, "1": True, "false": False, "0": False}

    def read(value: object) -> bool:
        if isinstance(value, str):
            value = words.get(value.strip().lower())
        if not isinstance(value, (bool, int)) or value not in (0, 1):
            raise ValueError
        return bool(value)

    return Kind("true or false", read)


def choice(modes: type[E]) -> Kind[E]:
    """One of an enum: itself, its value, its name, also in lower case and with dashes."""

    def read(value: object) -> E:
        if isinstance(value, modes):
            return value
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise ValueError
        for mode in modes:
            if str(value).strip().upper().replace("-", "_") in (mode.name, str(mode.value).upper()):
                return mode
        raise ValueError

    return Kind(f"a {modes.__name__}: {', '.join(mode.name.lower() for mode in modes)}", read)


def span(number: Kind[T], unit: str) -> Kind[tuple[T, T] | None]:
    """A range: two numbers, the low one first, also as ``"low high"``."""

    def read(value: object) -> tuple[T, T] | None:
        ends = value.split() if isinstance(value, str) else value
        if not isinstance(ends, (tuple, list)) or len(ends) != 2:
            raise ValueError
        low, high = number.read(ends[0]), number.read(ends[1])
        if _real(low) > _real(high):
            raise ValueError
        return low, high

    return Kind(f"a range of {unit}, (low, high), each {number.range}", read)


def sides(least: int, most: int) -> Kind[tuple[int, int]]:
    """Width and height in pixels, both even, as video wants them."""
    side = whole(least, most)

    def read(value: object) -> tuple[int, int]:
        pair = value.lower().split("x") if isinstance(value, str) else value
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise ValueError
        width, height = side.read(pair[0]), side.read(pair[1])
        if width % 2 or height % 2:
            raise ValueError
        return width, height

    return Kind(f"width and height, each an even number from {least} to {most}", read)


def rate(most: int) -> Kind[Fraction]:
    """Frames a second, whole or not."""

    def read(value: object) -> Fraction:
        if isinstance(value, bool) or not isinstance(value, (str, int, float, Fraction)):
            raise ValueError
        number = Fraction(value).limit_denominator(1001)
        if not 0 < number <= most:
            raise ValueError
        return number

    return Kind(f"frames a second, above 0 and up to {most}", read)


def word(pattern: str, what: str) -> Kind[str | None]:
    """Text of a certain form."""

    def read(value: object) -> str | None:
        if not isinstance(value, str) or not re.fullmatch(pattern, value, re.ASCII):
            raise ValueError
        return value

    return Kind(what, read)


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError
    return int(value)


def _real(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Fraction)):
        raise ValueError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number
