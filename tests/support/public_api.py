"""Writes down every public name with its signature, for `tests/project/test_public_signatures.py`."""

import dataclasses
import enum
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from typing import Any

import pydantic

from asynccam.model.manifest import Record

FOREIGN = (pydantic.BaseModel, enum.Enum, BaseException, tuple, str, int, dict, object)
"""Classes whose own members are not ours, although classes of asynccam inherit them."""


def public_api(packages: dict[str, str]) -> Iterator[str]:
    """Yield a line for each public name, member and signature.

    Args:
        packages: Public names of each package, separated by spaces.
    """
    for package, names in packages.items():
        module = importlib.import_module(package)
        for name in sorted(names.split()):
            yield from _describe(f"{package}.{name}", getattr(module, name))


def _describe(path: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        yield from _describe_class(path, value)
    elif callable(value):
        yield f"{path}{_signature(value)}"
    else:
        yield f"{path}: {type(value).__name__} = {_short(repr(value))}"


def _describe_class(path: str, kind: type) -> Iterator[str]:
    signature = "" if issubclass(kind, enum.Enum) else _signature(kind)
    yield f"class {path}{signature}"
    if issubclass(kind, enum.Enum):
        for member in kind:
            yield f"{path}.{member.name} = {member.value!r}"
    for name in sorted(set(dir(kind)) | set(getattr(kind, "__annotations__", {}))):
        if name.startswith("_") or _is_foreign(kind, name):
            continue
        member = inspect.getattr_static(kind, name, None)
        if isinstance(member, (staticmethod, classmethod)):
            yield f"{path}.{name}{_signature(member.__func__)} [{type(member).__name__}]"
        elif isinstance(member, property):
            yield f"{path}.{name} [property] -> {_annotation(member.fget)}"
        elif inspect.isfunction(member):
            prefix = "async " if inspect.iscoroutinefunction(member) else ""
            yield f"{prefix}{path}.{name}{_signature(member)}"
        elif not isinstance(member, enum.Enum):
            yield f"{path}.{name} [attribute]"
    if issubclass(kind, Record):
        yield from (f"{path}.{name} [field]" for name in sorted(kind.model_fields))
    elif dataclasses.is_dataclass(kind):
        yield from (f"{path}.{item.name} [field]" for item in dataclasses.fields(kind))


def _is_foreign(kind: type, name: str) -> bool:
    owner = next((base for base in kind.__mro__ if name in vars(base)), None)
    return owner is not None and not owner.__module__.startswith("asynccam")


def _signature(value: Any) -> str:
    try:
        return _short(str(inspect.signature(value)))
    except (TypeError, ValueError):
        return "(...)"


def _annotation(function: Any) -> str:
    return _short(inspect.formatannotation(inspect.signature(function).return_annotation))


def _short(text: str) -> str:
    """Drop the modules of annotations: they are not public, names are."""
    text = re.sub(r"0x[0-9a-f]+", "0x", text)
    text = re.sub(r"<function [^>]*>|<built-in [^>]*>|<bound method .*?>>|<factory>", "...", text)
    return re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Z_a-z])", "", text).replace("'", "").replace('"', "")


def main() -> None:
    """Print the public API, to be kept in ``tests/project/public_api.txt``."""
    from tests.project.test_public_names import PINNED

    sys.stdout.write("\n".join([*public_api(PINNED), ""]))


if __name__ == "__main__":
    main()
