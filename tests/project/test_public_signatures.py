"""Public names, members and parameters are those of ``public_api.txt``.

After a deliberate change, name it in the CHANGELOG and run
``python -m tests.support.public_api > tests/project/public_api.txt``.
"""

from pathlib import Path

from tests.project.test_public_names import PINNED
from tests.support.public_api import public_api

PAGE = Path(__file__).with_name("public_api.txt")


def test_public_api_is_the_recorded_one() -> None:
    recorded = set(PAGE.read_text(encoding="utf-8").splitlines())
    current = set(public_api(PINNED))
    assert sorted(current - recorded) == [], "new or changed"
    assert sorted(recorded - current) == [], "removed or changed"
