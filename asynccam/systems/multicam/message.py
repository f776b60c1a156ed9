"""What all MultiCam messages share: JSON in and out, strict where it matters, silent about secrets."""

import json
import math
import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

from asynccam.errors import RemoteProtocolError, UsageError

_WHOLE: Final = re.compile(r"[0-9]+(\.0*)?")
_LONGEST_SIZE: Final = 40
"""Characters; more digits are no size, and Python refuses to read thousands of them."""
_MOST_BYTES: Final = 2**63
_PADDING: Final = " \t\r\n\0"
_SECRET_NAME: Final = re.compile("aws|url|secret|token|password|credential", re.IGNORECASE)
_URL_QUERY: Final = re.compile(r"(://[^\s?#]*)[?#]\S*")


def _finite(value: JsonValue) -> JsonValue:
    """Refuse NaN and infinity at any depth: they could not be written as JSON again."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("numbers must be finite")
    if isinstance(value, dict):
        for item in value.values():
            _finite(item)
    elif isinstance(value, list):
        for item in value:
            _finite(item)
    return value


def size_of(value: object) -> int | None:
    """A number of bytes, as devices write it: a whole number, also as a float or as text; else None."""
    if isinstance(value, str):
        if len(value) > _LONGEST_SIZE or not _WHOLE.fullmatch(value.strip()):
            return None
        value = int(value.partition(".")[0])
    if isinstance(value, float) and value.is_integer():  # neither infinite nor not a number
        value = int(value)
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_BYTES
    return value if known and isinstance(value, int) else None


def number_of(value: object) -> float | None:
    """A finite number, or None: one that is optional does not spoil an answer."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


Number = Annotated[float, Field(strict=True)]
Size = Annotated[int | None, BeforeValidator(size_of)]
"""Bytes; None where a device writes what is no size. One bad number does not spoil a list of files."""
Count = Annotated[int, BeforeValidator(lambda value: size_of(value) or 0)]
"""Bytes; 0 where that is not known."""
Reported = Annotated[float | None, BeforeValidator(number_of)]
"""A number that a device need not tell; None where it writes what is no number."""
Flag = Annotated[bool, Field(strict=True)]


def _faults(error: ValidationError) -> str:
    """The first few faults in words; never the values, which may be credentials."""
    details = error.errors(include_url=False, include_input=False, include_context=False)
    words = [
        f"{'.'.join(str(part) for part in detail['loc'])[:80] or 'message'}: {detail['msg'][:120]}"
        for detail in details[:3]
    ]
    return "; ".join(words)


class Message(BaseModel):
    """One JSON object of the protocol: frozen, with whatever unknown fields it came with.

    Fields may be given by name, or by place as in the maker's package.

    Raises:
        UsageError: When it is made from values that its fields do not allow.
    """

    _places: ClassVar[tuple[str, ...]] = ()
    """Fields in the maker's order, where that is not the order in which they stand here."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    __pydantic_extra__: dict[str, Annotated[JsonValue, AfterValidator(_finite)]]

    def __init__(self, /, *given: Any, **values: Any) -> None:
        try:
            super().__init__(**_by_name(self._places or tuple(type(self).model_fields), given, values))
        except ValidationError as error:
            raise UsageError(f"not a usable {type(self).__name__}: {_faults(error)}") from None

    # Tells pydantic, as its own classes do, that parsing need not go through this method.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="before")
    @classmethod
    def _null_means_absent(cls, data: Any) -> Any:
        """Devices write null for what they do not have, in fields that are never null too."""
        if not isinstance(data, dict) or None not in data.values():
            return data
        return {name: value for name, value in data.items() if value is not None or cls._may_be_null(name)}

    @classmethod
    def _may_be_null(cls, name: str) -> bool:
        field = cls.model_fields.get(name)
        return field is None or field.is_required() or (field.default is None and not field.default_factory)

    @classmethod
    def from_json(cls, text: str | bytes | bytearray, *, peer: str = "the device") -> Self:
        """Parse one JSON object; blanks and NULs around it are ignored.

        Args:
            text: The object, as text or as UTF-8.
            peer: Who sent it, for the error.

        Raises:
            RemoteProtocolError: It is not JSON, not an object, or a field has a wrong type.
        """
        try:
            if isinstance(text, str):
                return cls.model_validate_json(text.strip(_PADDING))
            return cls.model_validate_json(text.strip(_PADDING.encode()))
        except ValidationError as error:
            raise RemoteProtocolError(f"{peer} sent no valid {cls.__name__}: {_faults(error)}") from None

    def to_json(self) -> str:
        """This message as JSON text, with the fields that were set and no others."""
        return json.dumps(self.model_dump(mode="json", exclude_unset=True))

    def to_bytes(self) -> bytes:
        """This message as UTF-8, with no length before it and no newline after it."""
        return self.to_json().encode()

    def __repr_args__(self) -> Any:
        for name, value in super().__repr_args__():
            if name is None or not _SECRET_NAME.search(name):
                yield name, _shown(value) if name in (self.model_extra or ()) else _without_query(value)
            elif value is not None:
                yield name, "***"


def _by_name(places: Sequence[str], given: Sequence[Any], values: dict[str, Any]) -> dict[str, Any]:
    """All fields by name; the given ones are in these places."""
    if len(given) > len(places):
        raise UsageError(f"{len(given)} values are too many; there are {len(places)} fields")
    placed = dict(zip(places, given, strict=False))
    if twice := placed.keys() & values.keys():
        raise UsageError(f"{', '.join(sorted(twice))} is given twice")
    return placed | values


def _shown(value: Any) -> Any:
    """An unknown field for a person: what is inside a container may be anything, so it stays hidden."""
    return "..." if isinstance(value, dict | list) else _without_query(value)


def _without_query(value: Any) -> Any:
    """Text without the query of its URLs, where presigned ones carry their signature."""
    return _URL_QUERY.sub(r"\1?***", value) if type(value) is str else value
