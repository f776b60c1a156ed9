"""No example is left out."""

from pathlib import Path

import pytest

from tests.seeds.examples import HERE, blocks


@pytest.mark.parametrize("page", sorted(HERE.glob("*.md")), ids=lambda path: path.stem)
def test_every_example_of_a_page_is_run(page: Path) -> None:
    tests = (HERE / f"test_{page.stem}.py").read_text(encoding="utf-8")
    examples = blocks(page.stem)
    assert examples
    assert [heading for heading in examples if f'"{heading}"' not in tests] == []
