"""One browser for all tests that look at the page."""

from collections.abc import Iterator

import pytest

from tests.support.browser import one_for_all


@pytest.fixture(scope="session")
def one_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Chromium, started once for each process that runs tests."""
    with one_for_all(tmp_path_factory.mktemp("browser")):
        yield
