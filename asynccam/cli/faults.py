"""``--fault``: trouble on purpose, for servers and simulators that can be told to make some."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from asynccam.errors import UsageError

FaultsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fault",
        metavar="NAME[=VALUE]",
        help="Misbehave on purpose; may be repeated. A name that does not exist shows all there are.",
        show_default=False,
    ),
]

F = TypeVar("F")


def faults_of(kind: type[F], texts: Sequence[str] | None) -> F:
    """What was given on the command line as the fault switches of a server.

    Args:
        kind: Their dataclass, whose default does nothing.
        texts: ``NAME`` for a switch, ``NAME=VALUE`` for a number or a text, ``NAME=A,B`` for several.

    Raises:
        UsageError: There is no such switch, or that is no value for it.
    """
    hints = get_type_hints(kind)
    chosen: dict[str, Any] = {}
    for text in texts or ():
        name, has_value, value = text.partition("=")
        if name not in hints:
            raise UsageError(f"no fault is called {name!r}; there are {', '.join(hints)}")
        chosen[name] = _converted(name, hints[name], value if has_value else None)
    return dataclasses.replace(kind(), **chosen)  # type: ignore[type-var]  # each kind is a dataclass


def _converted(name: str, hint: Any, value: str | None) -> Any:
    from pydantic import TypeAdapter, ValidationError

    given: Any = True if value is None else value.split(",") if "frozenset" in str(hint) else value
    try:
        return TypeAdapter(hint).validate_python(given)
    except ValidationError as error:
        raise UsageError(f"--fault {name}: {error.errors()[0]['msg']}") from None
