"""Dictionaries whose known keys are typed attributes too.

Scripts of the maker's client read, compare, change and write out the dictionaries they are given, so these
are such dictionaries.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Generic, Self, TypeVar, get_args, get_type_hints, overload

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

T = TypeVar("T")

_NEEDED: Final[Any] = object()


class Told(Generic[T]):
    """A key of an `Answer`, read as an attribute.

    Args:
        default: What the attribute is when the server did not send the key; without, it has to.
    """

    def __init__(self, default: T = _NEEDED) -> None:
        self.default = default
        self.needed = default is _NEEDED
        self._key = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._key = name

    @overload
    def __get__(self, answer: None, owner: type) -> Self: ...
    @overload
    def __get__(self, answer: "Answer", owner: type) -> T: ...
    def __get__(self, answer: "Answer | None", owner: type) -> Self | T:
        if answer is None:
            return self
        value: T = answer[self._key]
        return value


class Answer(dict[str, Any]):
    """A part of an answer: a dictionary of what the server sent, numbers as numbers.

    ``answer[key]`` is the default of a known key that was not sent; all else is as with any dictionary.
    """

    __slots__ = ()
    _told: ClassVar[Mapping[str, Told[Any]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._told = {name: one for name, one in vars(cls).items() if isinstance(one, Told)}

    def __missing__(self, key: str) -> Any:
        told = self._told.get(key)
        if told is None or told.needed:
            raise KeyError(key)
        return told.default

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        hints = get_type_hints(cls)
        fields = {
            name: core_schema.typed_dict_field(
                handler.generate_schema(get_args(hints[name])[0]), required=told.needed
            )
            for name, told in cls._told.items()
        }
        known = core_schema.typed_dict_schema(
            fields,
            extra_behavior="allow",
            config=core_schema.CoreConfig(coerce_numbers_to_str=True, allow_inf_nan=False),
        )
        return core_schema.no_info_after_validator_function(cls, known)
