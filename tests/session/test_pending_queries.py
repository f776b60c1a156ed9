"""PendingQueries: late answers, and those that nobody asks for any more."""

import asyncio

import pytest

from asynccam.errors import TimeoutError
from asynccam.runtime.tasks import TaskScope
from asynccam.session.pending_queries import PendingQueries


@pytest.mark.parametrize("end", ["drop", "restart", "close", "ask"])
async def test_unclaimed_answer_is_passed_on(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asynccam.session.pending_queries._FRESH", 0.0 if end == "ask" else 60.0)
    unclaimed: list[object] = []
    answered, go_on = asyncio.Event(), asyncio.Event()
    async with TaskScope("test") as scope:
        queries = PendingQueries(scope, lambda key: answered.set(), unclaimed.append)

        async def late() -> str:
            await go_on.wait()
            return "late"

        async def prompt() -> str:
            return "prompt"

        with pytest.raises(TimeoutError):
            await queries.ask("one", late, "one")
        go_on.set()
        await answered.wait()
        if end == "ask":
            assert await queries.ask("one", prompt, "one") == "prompt"
        elif end == "close":
            queries.close()
        else:
            getattr(queries, end)("one")
        assert unclaimed == ["late"]
        queries.close()
        assert unclaimed == ["late"]


async def test_slow_answer_extends_the_timeout() -> None:
    async with TaskScope("test") as scope:
        queries = PendingQueries(scope, lambda key: None)

        async def answer() -> str:
            await asyncio.sleep(0.8)  # what makes the answer slow
            return "here"

        assert queries.extra_timeout("one") == 0
        assert await queries.ask("one", answer, "one") == "here"
        assert queries.extra_timeout("one") > 0
