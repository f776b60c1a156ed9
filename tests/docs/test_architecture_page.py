"""docs/architecture.md shows the imports that the code has."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.architecture import LAYERS

ROOT = Path(__file__).parents[2]
AGAIN = "run .venv/bin/python .ci/import_diagram.py"


@pytest.fixture(scope="module")
def diagram() -> ModuleType:
    spec = importlib.util.spec_from_file_location("import_diagram", ROOT / ".ci/import_diagram.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_picture_is_that_of_the_code(diagram: ModuleType) -> None:
    assert diagram.PICTURE.read_text() == diagram.picture(diagram.read_imports()), AGAIN


def test_table_is_that_of_the_code(diagram: ModuleType) -> None:
    text = diagram.PAGE.read_text()
    assert diagram.page(text, diagram.read_imports()) == text, AGAIN


def test_diagram_has_every_layer_of_the_rules(diagram: ModuleType) -> None:
    assert diagram.read_imports().keys() == LAYERS.keys()


def test_page_explains_every_package() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    table = page[page.index("## Packages") : page.index("## What each layer promises")]
    named = set(
        re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in table.splitlines() if "|" in row))
    )
    assert named == {name for name in LAYERS if not name.startswith("__")}


def test_imports_of_a_small_package_are_read(diagram: ModuleType, tmp_path: Path) -> None:
    package = tmp_path / "small"
    for name, text in {
        "__init__.py": "from small.top import Top",
        "low.py": "import os",
        "middle/__init__.py": "",
        "middle/one.py": "from ..low import x\nfrom . import two",
        "middle/two.py": "def late() -> None:\n    import small.low",
        "top.py": "from small import low\nfrom small.middle.one import y",
    }.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    imports = diagram.read_imports(package)
    assert imports == {"__init__": {"top"}, "low": set(), "middle": {"low"}, "top": {"low", "middle"}}
    assert diagram.layers_of(imports) == {"low": 0, "middle": 1, "top": 2, "__init__": 3}
    assert diagram.reduced(imports)["top"] == {"middle"}
    assert ">middle<" in diagram.picture(imports)


def test_circle_of_imports_is_an_error(diagram: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"in a circle: \['a', 'b'\]"):
        diagram.layers_of({"a": {"b"}, "b": {"a"}, "c": set()})
