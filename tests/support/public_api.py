"""Writes down every public name with its signature, for `tests/project/test_public_signatures.py`."""

import dataclasses
import enum
import importlib
import inspect
import sys
from collections.abc import Iterator
from typing import Any

import pydantic

from asynccam.model.manifest import Record

FOREIGN = (pydantic.BaseModel, enum.Enum, BaseException, tuple, str, int, dict, object)
"""Classes whose own members are not ours, although classes of asynccam inherit them."""

_MARKS = {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}


def public_api(packages: dict[str, str]) -> Iterator[str]:
    """Yield a line for each public name, member and signature.

    Args:
        packages: Public names of each package, separated by spaces.
    """
    described: dict[int, str] = {}
    for package, names in packages.items():
        module = importlib.import_module(package)
        for name in sorted(names.split()):
            path, value = f"{package}.{name}", getattr(module, name)
            if callable(value) and id(value) in described:
                yield f"{path} is {described[id(value)]}"
            else:
                described[id(value)] = path
                yield from _describe(path, value)


def _describe(path: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        yield from _describe_class(path, value)
    elif callable(value):
        yield f"{path}{_signature(value)}"
    else:
        yield f"{path}: {type(value).__name__}"


def _describe_class(path: str, kind: type) -> Iterator[str]:
    signature = "" if issubclass(kind, enum.Enum) else _signature(kind)
    yield f"class {path}{signature}"
    if issubclass(kind, enum.Enum):
        for member in kind:
            yield f"{path}.{member.name} = {member.value!r}"
    fields = set(kind.model_fields) if issubclass(kind, Record) else set()
    if dataclasses.is_dataclass(kind):
        fields = {item.name for item in dataclasses.fields(kind)}
    for name in sorted({*dir(kind), *fields, *getattr(kind, "__annotations__", {})}):
        if name.startswith("_") or _is_foreign(kind, name):
            continue
        member = inspect.getattr_static(kind, name, None)
        if isinstance(member, (staticmethod, classmethod)):
            yield f"{path}.{name}{_signature(member.__func__)} [{type(member).__name__}]"
        elif isinstance(member, property):
            yield f"{path}.{name} [property]"
        elif inspect.isfunction(member):
            prefix = "async " if inspect.iscoroutinefunction(member) else ""
            yield f"{prefix}{path}.{name}{_signature(member)}"
        elif not isinstance(member, enum.Enum):
            yield f"{path}.{name} [attribute]"


def _is_foreign(kind: type, name: str) -> bool:
    owner = next((base for base in kind.__mro__ if name in vars(base)), None)
    return owner is not None and not owner.__module__.startswith("asynccam")


def _signature(value: Any) -> str:
    """Return the names of parameters, with ``=`` behind those that have a default."""
    try:
        parameters = list(inspect.signature(value).parameters.values())
    except (TypeError, ValueError):
        return "(...)"
    parts: list[str] = []
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not any(part.startswith("*") for part in parts):
            parts.append("*")
        default = "" if parameter.default is parameter.empty else "="
        parts.append(f"{_MARKS.get(parameter.kind.name, '')}{parameter.name}{default}")
    return f"({', '.join(parts)})"


def main() -> None:
    """Print the public API, to be kept in ``tests/project/public_api.txt``."""
    from tests.project.test_public_names import PINNED

    sys.stdout.write("\n".join([*public_api(PINNED), ""]))


if __name__ == "__main__":
    main()
