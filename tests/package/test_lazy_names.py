"""Public names read from the stubs of packages, and imported when they are first used."""

import ast
import importlib
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import asynccam
from asynccam.lazy_names import read_stub

ROOT = Path(asynccam.__file__).parent
STUBS = sorted(ROOT.rglob("__init__.pyi"))


def write_package(directory: Path, stub: str) -> Path:
    package = directory / "lazy_package"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from asynccam.lazy_names import attach_stub\n"
        "__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)\n"
    )
    (package / "__init__.pyi").write_text(stub)
    (package / "thing.py").write_text("class thing: ...\n\n\nother = 1\n")
    return package


def run(code: str, directory: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=directory, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("stub", STUBS, ids=lambda path: path.parent.name)
def test_stub_gives_the_names_that_ast_finds(stub: Path) -> None:
    expected = {
        alias.asname: statement.module
        for statement in ast.parse(stub.read_text()).body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert len(STUBS) == 7
    assert expected
    assert read_stub(str(stub)) == expected


@pytest.mark.parametrize("stub", STUBS, ids=lambda path: path.parent.name)
def test_package_lists_its_names_and_has_each(stub: Path) -> None:
    parts = stub.parent.relative_to(ROOT.parent).parts
    package = importlib.import_module(".".join(parts))
    names = sorted(read_stub(str(stub)))
    assert package.__all__ == dir(package) == names
    for name, module in read_stub(str(stub)).items():
        value = getattr(package, name)
        assert value is getattr(importlib.import_module(f"{package.__name__}.{module}"), name)
        assert vars(package)[name] is value


def test_changing_dir_changes_no_names() -> None:
    dir(asynccam).clear()
    assert "Session" in dir(asynccam)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^No asynccam attribute Sesion$"):
        _ = asynccam.Sesion  # type: ignore[attr-defined]
    with pytest.raises(ImportError, match="cannot import name 'Sesion' from 'asynccam'"):
        exec("from asynccam import Sesion")


def test_star_import_and_pickling() -> None:
    names: dict[str, object] = {}
    exec("from asynccam import *", names)
    assert set(dir(asynccam)) <= set(names)
    address = asynccam.Address("multicam", "127.0.0.1", 8080)
    assert pickle.loads(pickle.dumps(address)) == address


def test_importing_the_package_imports_none_of_its_modules() -> None:
    code = "import sys; old = set(sys.modules); import asynccam; print(sorted(set(sys.modules) - old))"
    added = ast.literal_eval(run(code, ROOT.parent))
    assert {name for name in added if name.startswith("asynccam")} == {"asynccam", "asynccam.lazy_names"}
    assert not {"ast", "re", "typing", "collections", "importlib", "asyncio"} & set(added)


@pytest.mark.parametrize(
    "first", ["", "import lazy_package.thing", "import lazy_package.thing; lazy_package.other"]
)
def test_name_hides_the_submodule_of_the_same_name(tmp_path: Path, first: str) -> None:
    write_package(tmp_path, "from .thing import other as other, thing as thing\n")
    code = f"""
import sys
sys.path.insert(0, {str(ROOT.parent)!r})
{first}
import lazy_package
from lazy_package import thing
print(thing.__qualname__, lazy_package.thing is thing, lazy_package.thing.__module__)
"""
    assert run(code, tmp_path) == "thing True lazy_package.thing"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("# comment\n\n__version__: str\n", {}),
        ("from .a import B as B", {"B": "a"}),
        ("from .a.b import C as C, D as D  # comment", {"C": "a.b", "D": "a.b"}),
        ("from .a import (B as B, C as C)", {"B": "a", "C": "a"}),
        ("from .a import (\n    B as B,  # comment\n\n    C as C\n)\n", {"B": "a", "C": "a"}),
        ("from .a import (B as B,\n    C as C,)\r\n", {"B": "a", "C": "a"}),
    ],
)
def test_stub_forms(tmp_path: Path, text: str, expected: dict[str, str]) -> None:
    stub = tmp_path / "__init__.pyi"
    stub.write_bytes(text.encode())
    assert read_stub(str(stub)) == expected


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("import a", 1),
        ("\nfrom .a import *", 2),
        ("from .a import B", 1),
        ("from .a import B as C", 1),
        ("from .a import B as B,\\", 1),
        ("from a import B as B", 1),
        ("from . import b as b", 1),
        ("from ..a import B as B", 1),
        ("from .a import (B as B) C", 1),
        ("from .a import C (B as B)", 1),
        ("from .a import (\n    B as B,\n    C,\n)", 3),
        ("from .a import (\n    B as B,\n) + 1", 3),
        ("from .a imports B as B", 1),
        ("from .a import B as B; x = 1", 1),
        ("def f() -> None: ...", 1),
        ("if x: ...", 1),
        ("__all__ = ['B']", 1),
    ],
)
def test_other_statements_are_refused_with_their_line(tmp_path: Path, text: str, line: int) -> None:
    stub = tmp_path / "__init__.pyi"
    stub.write_text(text)
    with pytest.raises(ImportError, match=rf"__init__\.pyi, line {line}: expected 'from \.module import"):
        read_stub(str(stub))


def test_open_parenthesis_and_missing_stub_are_refused(tmp_path: Path) -> None:
    stub = tmp_path / "__init__.pyi"
    with pytest.raises(ImportError, match=r"__init__\.pyi cannot be read: No such file"):
        read_stub(str(stub))
    stub.write_text("from .a import (\n    B as B,\n")
    with pytest.raises(ImportError, match=r"the parenthesis after 'from \.a import' is not closed"):
        read_stub(str(stub))
