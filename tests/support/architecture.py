"""Checks of the package's architecture by its syntax trees; see docs/architecture.md for the rules."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PACKAGE: Final = "asynccam"

# An area imports only from areas in layers below it, and from itself.
LAYERS: Final = {
    "errors": 1,
    "lazy_names": 1,
    "outside": 1,
    "redaction": 1,
    "wall_clock": 1,
    "model": 2,
    "runtime": 3,
    "net": 4,
    "recording": 4,
    "take": 4,
    "systems": 5,
    "session": 6,
    "bridge": 7,
    "__init__": 8,  # the public names
    "cli": 9,
    "__main__": 10,
}
SANS_IO: Final = {"framing", "jsonrpc_codec", "protocol", "rtcp", "sntp"}
"""Names of modules that do no I/O: the same bytes give the same events wherever they are cut."""
CLOCKS_AND_SOCKETS: Final = {"asyncio", "socket", "ssl", "time"}
TASK_MAKERS: Final = {"create_task", "ensure_future", "TaskGroup", "run_coroutine_threadsafe"}
LOOP_OWNERS: Final = {"run", "Runner", "new_event_loop", "set_event_loop", "set_event_loop_policy"}
LOGGING_SETTERS: Final = {
    "basicConfig",
    "dictConfig",
    "fileConfig",
    "addHandler",
    "setLevel",
    "captureWarnings",
}
WALL_CLOCK_READS: Final = {
    "time.time",
    "time.time_ns",
    "time.CLOCK_REALTIME",
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "date.today",
}
IMPLICIT_READS: Final = {
    "time.strftime": 2,
    "time.localtime": 1,
    "time.gmtime": 1,
    "time.ctime": 1,
    "time.asctime": 1,
}
"""Functions that read the time of day unless they are given so many arguments."""
SIGNAL_SETTERS: Final = {"add_signal_handler", "set_wakeup_fd", "sigwait"}


@dataclass(frozen=True)
class Module:
    """One source file.

    Attributes:
        name: Dotted, without the package's own name: ``net.clock``; ``__init__`` for the package.
        path: Relative to the package's parent.
    """

    name: str
    path: Path
    tree: ast.Module

    @property
    def area(self) -> str:
        return self.name.partition(".")[0]

    @property
    def is_sans_io(self) -> bool:
        return self.name.rpartition(".")[2] in SANS_IO


MAX_FUNCTION: Final = 60
"""Lines of a function's body without its docstring."""
LIBRARY_PRIVATE: Final = {"os._exit", "asyncio._unregister_task"}
"""Private names of the standard library that are used, because there is no public one."""


def breaches(package: Path) -> list[str]:
    """Every breach in the package at ``package``, as ``path:line: words``."""
    modules = {module.name: module for module in _read(package)}
    found = [
        f"{modules[circle[0]].path}:1: an import circle: {' -> '.join([*circle, circle[0]])}"
        for circle in _circles(modules)
    ]
    for module in modules.values():
        checks = [
            _arrows(module, modules),
            _sans_io(module, modules),
            _tasks(module),
            _bare_excepts(module),
            _wall_clock(module),
            _long_functions(module),
            _private_names(module),
        ]
        if module.area not in ("cli", "__main__"):
            checks.append(_cli_only(module))
        if module.path.name == "__init__.py":
            checks.append(_logic_in_init(module))
        found += [f"{module.path}:{line}: {words}" for check in checks for line, words in check]
    return sorted(found)


Breaches = Iterator[tuple[int, str]]


def _read(package: Path) -> Iterator[Module]:
    for path in sorted(package.rglob("*.py")):
        parts = list(path.relative_to(package).with_suffix("").parts)
        if parts[-1] == "__init__" and len(parts) > 1:
            del parts[-1]
        tree = ast.parse(path.read_text("utf-8"), str(path))
        yield Module(".".join(parts), path.relative_to(package.parent), tree)


def _arrows(module: Module, modules: dict[str, Module]) -> Breaches:
    if module.area not in LAYERS:
        yield 1, f"{module.area} is in no layer"
        return
    for line, target in _own_imports(module, modules):
        area = target.partition(".")[0]
        if area not in LAYERS:
            yield line, f"imports {target}, which is in no layer"
        elif area == module.area:
            if (
                area == "systems"
                and _system(target) not in ("_base", "_local_recorder", _system(module.name))
                and _system(module.name)
            ):
                yield line, f"{_system(module.name)} imports {target} from another system"
        elif LAYERS[area] >= LAYERS[module.area]:
            yield line, f"{module.area} (layer {LAYERS[module.area]}) imports {target} (layer {LAYERS[area]})"


def _sans_io(module: Module, modules: dict[str, Module]) -> Breaches:
    """No clock and no socket in a protocol, nor in anything of ours it imports but the plain values."""
    if not module.is_sans_io:
        return
    seen, ahead = {module.name}, [module]
    while ahead:
        one = ahead.pop()
        banned = CLOCKS_AND_SOCKETS if one is module else CLOCKS_AND_SOCKETS - {"time"}
        for line, name in _foreign_imports(one):
            if name.partition(".")[0] in banned:
                yield (
                    (line if one is module else 1),
                    f"a protocol without I/O imports {name}"
                    + ("" if one is module else f" by way of {one.name}"),
                )
        for _, target in _own_imports(one, modules):
            if target in modules and target not in seen:
                seen.add(target)
                ahead.append(modules[target])


def _tasks(module: Module) -> Breaches:
    if module.name == "runtime.tasks":
        return
    for node in ast.walk(module.tree):
        for name in _names(node):
            if name in TASK_MAKERS or name in ("asyncio.gather", "gather"):
                yield _line(node), f"{name}: tasks are made in runtime/tasks.py only"


def _wall_clock(module: Module) -> Breaches:
    """Only `asynccam.wall_clock` reads the time of day, however the call is spelled."""
    if module.name == "wall_clock":
        return
    for node in ast.walk(module.tree):
        names = set(_names(node))
        if isinstance(node, ast.Attribute):
            names.add(".".join(ast.unparse(node).split(".")[-2:]))
        for name in sorted(names & WALL_CLOCK_READS):
            yield _line(node), f"{name}: only wall_clock.py reads the time of day"
        if isinstance(node, ast.Call) and ast.unparse(node.func) in IMPLICIT_READS:
            given = len(node.args) + len(node.keywords)
            if given < IMPLICIT_READS[ast.unparse(node.func)]:
                yield _line(node), f"{ast.unparse(node.func)}: only wall_clock.py reads the time of day"


def _long_functions(module: Module) -> Breaches:
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
        lines = (node.end_lineno or 0) - first.lineno + 1
        if lines > MAX_FUNCTION:
            yield node.lineno, f"{node.name} has {lines} lines, more than {MAX_FUNCTION}"


def _private_names(module: Module) -> Breaches:
    """Find ``x._y`` where ``_y`` is a name of another class; functions may use those of their own module."""
    in_module = {name for node in ast.walk(module.tree) for name in _defined_in_class(node)}

    def visit(node: ast.AST, own: set[str]) -> Breaches:
        if isinstance(node, ast.ClassDef):
            own = _defined_in_class(node)
        if (
            isinstance(node, ast.Attribute)
            and re.fullmatch(r"_[^_].*", node.attr)
            and node.attr != "_replace"
        ):
            owner = ast.unparse(node.value)
            allowed = owner in ("self", "cls", "super()") or ast.unparse(node) in LIBRARY_PRIVATE
            if not allowed and node.attr not in own:
                yield node.lineno, f"{owner}.{node.attr}: a private name of another class"
        for child in ast.iter_child_nodes(node):
            yield from visit(child, own)

    yield from visit(module.tree, in_module)


def _defined_in_class(node: ast.AST) -> set[str]:
    """Return the names that a class defines, in its body or as attributes of ``self`` and ``cls``."""
    if not isinstance(node, ast.ClassDef):
        return set()
    names = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(inner.name)
        elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            names.add(inner.id)
        elif (
            isinstance(inner, ast.Attribute)
            and isinstance(inner.ctx, ast.Store)
            and isinstance(inner.value, ast.Name)
            and inner.value.id in ("self", "cls")
        ):
            names.add(inner.attr)
    return names


def _circles(modules: dict[str, Module]) -> list[list[str]]:
    """Return an import circle for every module that is first in one; imports at any depth count."""
    imports = {
        name: sorted({target for _, target in _own_imports(module, modules) if target in modules} - {name})
        for name, module in modules.items()
    }
    found: list[list[str]] = []
    for start in modules:
        ways = [[start]]
        seen: set[str] = set()
        while ways:
            way = ways.pop(0)
            for target in imports[way[-1]]:
                if target == start:
                    found.append(way)
                    ways.clear()
                    break
                if target not in seen and target > start:
                    seen.add(target)
                    ways.append([*way, target])
    return found


ENDS_CHILDREN = "runtime.tasks"
"""Flushes the standard streams before a forked child ends, as the interpreter does at its end."""


def _cli_only(module: Module) -> Breaches:
    for node in ast.walk(module.tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("print", "input")
        ):
            yield _line(node), f"{node.func.id}(): only the command talks to the terminal"
        for name in _names(node):
            if name in ("sys.stdout", "sys.stderr", "sys.stdin") and module.name != ENDS_CHILDREN:
                yield _line(node), f"{name}: only the command talks to the terminal"
            elif name in LOGGING_SETTERS or name in ("logging.config", "logging.disable"):
                yield _line(node), f"{name}: the library never configures logging"
            elif name in SIGNAL_SETTERS or name == "signal.signal":
                yield _line(node), f"{name}: the library handles no signals"
            elif name.startswith("asyncio.") and name.removeprefix("asyncio.") in LOOP_OWNERS:
                yield _line(node), f"{name}: the library owns no event loop"


def _bare_excepts(module: Module) -> Breaches:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield node.lineno, "a bare except"


LAZY_NAMES = "__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)"
"""How a package brings in the names of its ``__init__.pyi`` when they are asked for."""


def _logic_in_init(module: Module) -> Breaches:
    for position, node in enumerate(module.tree.body):
        docstring = position == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        names = (
            isinstance(node, ast.Assign)
            and [ast.unparse(target) for target in node.targets] == ["__all__"]
            and isinstance(node.value, ast.List | ast.Tuple)
            and all(isinstance(one, ast.Constant) for one in node.value.elts)
        )
        version = (
            isinstance(node, ast.Assign)
            and [ast.unparse(target) for target in node.targets] == ["__version__"]
            and isinstance(node.value, ast.Constant)
        )
        lazy = ast.unparse(node) == LAZY_NAMES
        if not (docstring or names or version or lazy or isinstance(node, ast.Import | ast.ImportFrom)):
            yield node.lineno, "logic in an __init__.py"


def _own_imports(module: Module, modules: dict[str, Module]) -> Iterator[tuple[int, str]]:
    """Every import of the package itself, at whatever depth, by its name within the package."""
    for line, name in _imports(module, modules):
        if name == PACKAGE:
            yield line, "__init__"
        elif name.startswith(f"{PACKAGE}."):
            yield line, name.removeprefix(f"{PACKAGE}.")


def _foreign_imports(module: Module) -> Iterator[tuple[int, str]]:
    for line, name in _imports(module, {}):
        if name.partition(".")[0] != PACKAGE:
            yield line, name


def _imports(module: Module, modules: dict[str, Module]) -> Iterator[tuple[int, str]]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.path.with_suffix("").parts[: -node.level]
                base = ".".join((*above, *([base] if base else [])))
            for alias in node.names:
                # ``from asynccam import errors`` imports a module, ``from asynccam import Take`` a name.
                whole = f"{base}.{alias.name}".removeprefix(f"{PACKAGE}.")
                yield node.lineno, f"{base}.{alias.name}" if whole in modules else base


def _system(name: str) -> str:
    parts = name.split(".")
    return parts[1] if parts[0] == "systems" and len(parts) > 1 else ""


def _names(node: ast.AST) -> Iterator[str]:
    """Yield what a node refers to: ``x.y`` as ``x.y`` and ``y``, names, and what is imported from modules."""
    if isinstance(node, ast.Attribute):
        yield node.attr if node.attr != "gather" else ""  # a scope may gather
        if isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"
    elif isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.ImportFrom) and not node.level:
        for alias in node.names:
            yield f"{node.module}.{alias.name}"
            yield alias.name
    elif isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name


def _line(node: ast.AST) -> int:
    return int(getattr(node, "lineno", 1))
