"""Public names of a package, read from its stub and imported when they are first used.

A package's ``__init__.pyi`` is the only list of its names: editors and type checkers read it, and so does
`attach_stub`. Importing `ast` to parse it, as the package ``lazy_loader`` does, costs twice as much as all
else that ``import asynccam`` does. This module reads the few forms that such a stub needs.
"""

import sys
from types import ModuleType

TYPE_CHECKING = False  # instead of importing `typing`, which costs more than reading all stubs
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_FORM = "from .module import Name as Name"


class _Package(ModuleType):
    """Package in which a public name hides the submodule of the same name.

    After a submodule is loaded, the import system sets it as an attribute of its package.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in self.__all__ and value is sys.modules.get(f"{self.__name__}.{name}")):
            super().__setattr__(name, value)


def attach_stub(
    package: str, file: str
) -> "tuple[Callable[[str], object], Callable[[], list[str]], list[str]]":
    """Return a package's ``__getattr__``, ``__dir__`` and ``__all__`` for the names in its stub.

    Args:
        package: The package's ``__name__``.
        file: Its ``__file__``; the stub is beside it.

    Raises:
        ImportError: The stub is missing or has a statement other than ``from .module import Name as Name``.
    """
    modules = read_stub(f"{file.rpartition('.')[0]}.pyi")
    names = sorted(modules)

    def load(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"No {package} attribute {name}")
        module = f"{package}.{modules[name]}"
        __import__(module)
        value: object = getattr(sys.modules[module], name)
        # Found without this function from now on.
        vars(sys.modules[package])[name] = value
        return value

    if any(name == module.partition(".")[0] for name, module in modules.items()):
        sys.modules[package].__class__ = _Package
    return load, names.copy, names


def read_stub(path: str) -> dict[str, str]:
    """Return the names that a stub imports, each with its module relative to the package.

    A stub may also have comments and annotations (``__version__: str``), which name nothing to import.
    """
    # As the import system reads: from an archive too, and on an event loop, where imports may happen.
    loader: Any = sys.modules[__name__].__loader__
    try:
        lines = loader.get_data(path).decode().split("\n")
    except OSError as error:
        raise ImportError(f"the stub {path} cannot be read: {error.strerror}") from error
    names: dict[str, str] = {}
    module = ""  # of the statement whose parenthesis is open
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        try:
            if module:
                text, closed, rest = text.partition(")")
                _add_names(names, module, text, rest)
                module = "" if closed else module
            elif text.startswith("from "):
                module = _read_statement(names, text)
            elif text and not text.partition(":")[0].isidentifier():
                raise ValueError
        except ValueError:
            raise ImportError(f"{path}, line {number}: expected '{_FORM}', not {line!r}") from None
    if module:
        raise ImportError(f"{path}: the parenthesis after 'from .{module} import' is not closed")
    return names


def _read_statement(names: dict[str, str], text: str) -> str:
    """Add the names of a statement's first line; return its module if further lines follow, else ``""``."""
    source, imported, text = text.removeprefix("from ").partition(" import ")
    module = source.strip().removeprefix(".")
    if not imported or source.strip() == module or not all(map(str.isidentifier, module.split("."))):
        raise ValueError
    text, opened, rest = text.strip().partition("(")
    if not opened:
        _add_names(names, module, text)
        return ""
    inside, closed, after = rest.partition(")")
    _add_names(names, module, inside, text + after)
    return "" if closed else module


def _add_names(names: dict[str, str], module: str, text: str, outside: str = "") -> None:
    """Add the names in ``Name as Name, Name as Name``; nothing may stand outside their parentheses."""
    if outside:
        raise ValueError
    for item in text.split(","):
        name, renamed, alias = item.strip().partition(" as ")
        if not name and not renamed:
            continue  # after the last comma, or a line without names
        if not name.isidentifier() or name != alias.strip():
            raise ValueError
        names[name] = module
