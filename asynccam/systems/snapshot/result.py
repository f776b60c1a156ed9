"""Dictionaries whose known keys are typed attributes too.

Scripts written for the vendor's client read, compare, change and save the dictionaries it returns.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Generic, Self, TypeVar, get_args, get_type_hints, overload

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

T = TypeVar("T")

_REQUIRED: Final[Any] = object()


class Key(Generic[T]):
    """A key of an `AttributeDict` as an attribute; ``default`` is its value if the server did not send it."""

    def __init__(self, default: T = _REQUIRED) -> None:
        self.default = default
        self.required = default is _REQUIRED
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: "AttributeDict", owner: type) -> T: ...
    def __get__(self, instance: "AttributeDict | None", owner: type) -> Self | T:
        if instance is None:
            return self
        value: T = instance[self._name]
        return value


class AttributeDict(dict[str, Any]):
    """A dictionary that the server sent; ``d[key]`` is the default of a known key that it did not send."""

    __slots__ = ()
    _keys: ClassVar[Mapping[str, Key[Any]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._keys = {name: key for name, key in vars(cls).items() if isinstance(key, Key)}

    def __missing__(self, name: str) -> Any:
        key = self._keys.get(name)
        if key is None or key.required:
            raise KeyError(name)
        return key.default

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        hints = get_type_hints(cls)
        fields = {
            name: core_schema.typed_dict_field(
                handler.generate_schema(get_args(hints[name])[0]), required=key.required
            )
            for name, key in cls._keys.items()
        }
        known = core_schema.typed_dict_schema(
            fields,
            extra_behavior="allow",
            config=core_schema.CoreConfig(coerce_numbers_to_str=True, allow_inf_nan=False),
        )
        return core_schema.no_info_after_validator_function(cls, known)
