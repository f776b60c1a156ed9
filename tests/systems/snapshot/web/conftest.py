"""One browser for all tests of the page that run in one process."""

from collections.abc import Iterator

import pytest

from tests.support.browser import shared_browser


@pytest.fixture(scope="module", autouse=True)
def browser_of_the_module(request: pytest.FixtureRequest) -> Iterator[None]:
    """Only where one is needed, and before what looks for leftovers."""
    if not hasattr(request.module, "chromium"):
        yield
        return
    with shared_browser():
        yield
