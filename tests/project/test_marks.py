"""Every test file has its marks, and no unit test starts a process."""

import pytest

from tests.support.marks import SLOW, TESTS, marks_of

FILES = sorted(TESTS.rglob("test_*.py"))


@pytest.mark.parametrize(
    ("name", "marks"),
    [
        ("net/test_framing.py", ("unit",)),
        ("model/test_address.py", ("unit",)),
        ("cli/test_demo.py", ("integration", "slow")),
        ("recording/test_sources.py", ("integration",)),
        ("systems/snapshot/web/test_browser.py", ("browser",)),
        ("take/test_clocks_set.py", ("slow",)),
    ],
)
def test_marks_of_known_files(name: str, marks: tuple[str, ...]) -> None:
    assert marks_of(TESTS / name) == marks


def test_marks_exist_for_every_file_and_every_slow_file_exists() -> None:
    assert {path.relative_to(TESTS).as_posix() for path in FILES} >= SLOW
    kinds = [marks_of(path) for path in FILES]
    assert all(kinds)
    assert sum(kind == ("unit",) for kind in kinds) > 100
