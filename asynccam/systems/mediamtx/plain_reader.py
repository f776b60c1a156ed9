"""Reading of plain results without the validators that only unusual ones need.

Full validation of a result runs Python code for each of its objects: null and empty text are removed, other
names are accepted, numbers and lists are converted. A plain result needs none of it, as each value has its
field's very type. `PlainReader` reads such a result into the same object in half the time, and leaves every
other result to full validation.
"""

from collections.abc import Mapping
from functools import partial
from types import NoneType, UnionType
from typing import Any, Final, Generic, TypeVar, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, SchemaValidator, ValidationError, core_schema

M = TypeVar("M", bound=BaseModel)

_SCALARS: Final[dict[Any, CoreSchema]] = {
    str: core_schema.str_schema(strict=True),
    int: core_schema.int_schema(strict=True),
    float: core_schema.float_schema(strict=True, allow_inf_nan=False),  # takes integers too
    bool: core_schema.bool_schema(strict=True),
}

# What pydantic keeps in an object. Its own `__setattr__` is for fields; these set the attributes themselves.
_new: Final = object.__new__
_set_fields: Final = vars(BaseModel)["__dict__"].__set__
_set_given: Final = vars(BaseModel)["__pydantic_fields_set__"].__set__
_set_unknown: Final = vars(BaseModel)["__pydantic_extra__"].__set__
_set_private: Final = vars(BaseModel)["__pydantic_private__"].__set__


class _NotPlainError(Exception):
    """A result has a name that only full validation understands."""


class PlainReader(Generic[M]):
    """Reader of plain results of one model, which keeps unknown fields and has no ``model_post_init``.

    Args:
        model: Its fields are of text, numbers, truth values, models that ``inner`` has, or lists of these.
        inner: Readers of the models of its fields.
        unusual: Names that only full validation understands.
    """

    def __init__(
        self, model: type[M], inner: "Mapping[Any, PlainReader[Any]]", unusual: frozenset[str]
    ) -> None:
        self._model = model
        self._names = frozenset(model.model_fields)
        self._unusual = unusual
        self._private = {name: value.get_default() for name, value in model.__private_attributes__.items()}
        self._objects: list[tuple[str, PlainReader[Any]]] = []  # fields with one object
        self._lists: list[tuple[str, PlainReader[Any]]] = []  # fields with a list of objects
        # Checked as dictionaries, of which `_build` makes objects sooner than pydantic does.
        self.schema = core_schema.typed_dict_schema(
            {name: self._field(field, inner, name) for name, field in model.model_fields.items()},
            extra_behavior="ignore",  # `_build` takes them from the value
            strict=True,
        )
        self._validator = SchemaValidator(self.schema)

    def read(self, value: Any) -> M | None:
        """Return the object that full validation would return, or None where only that can tell."""
        try:
            return self._build(self._validator.validate_python(value), value)
        except (ValidationError, _NotPlainError):
            return None

    def _field(
        self, field: FieldInfo, inner: "Mapping[Any, PlainReader[Any]]", name: str
    ) -> core_schema.TypedDictField:
        annotation: Any = field.annotation
        if isinstance(annotation, UnionType):  # with None, which stands for a missing value and is not plain
            (annotation,) = (kind for kind in get_args(annotation) if kind is not NoneType)
        is_list = get_origin(annotation) is list
        if is_list:
            (annotation,) = get_args(annotation)
        reader = inner.get(annotation)
        schema = _SCALARS[annotation] if reader is None else reader.schema
        if is_list:
            schema = core_schema.list_schema(schema, strict=True)
        if reader is not None:
            (self._lists if is_list else self._objects).append((name, reader))
        if field.default_factory is None:
            return core_schema.typed_dict_field(
                core_schema.with_default_schema(schema, default=field.default)
            )
        empty = list if is_list or reader is None else partial(reader._validator.validate_python, {})
        return core_schema.typed_dict_field(core_schema.with_default_schema(schema, default_factory=empty))

    def _build(self, fields: dict[str, Any], value: dict[str, Any]) -> M:
        """Return the object with the checked fields of a value; the value shows which of them were given."""
        given = set(value)
        unknown = {} if given <= self._names else self._unknown_fields(value)
        for name, reader in self._objects:
            if (inner := fields[name]) is not None:
                fields[name] = reader._build(inner, value.get(name, {}))
        for name, reader in self._lists:
            fields[name] = [*map(reader._build, fields[name], value.get(name, ()))]
        result = _new(self._model)
        _set_fields(result, fields)
        _set_given(result, given)
        _set_unknown(result, unknown)
        _set_private(result, self._private.copy() if self._private else None)
        return result

    def _unknown_fields(self, value: dict[str, Any]) -> dict[str, Any]:
        unknown = {name: given for name, given in value.items() if name not in self._names}
        if not self._unusual.isdisjoint(unknown):
            raise _NotPlainError
        try:
            "".join(unknown).encode()
        except (TypeError, UnicodeEncodeError):  # no text, or half of a surrogate pair
            raise _NotPlainError from None
        return unknown
