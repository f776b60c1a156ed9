"""Questions to cameras and services that are waited for shortly, and whose late answers still count."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final, TypeVar

from asynccam.errors import TimeoutError
from asynccam.runtime.tasks import TaskScope
from asynccam.runtime.timing import deadline

T = TypeVar("T")

_PROMPT: Final = 1.5
"""Seconds within which a camera answers that is there."""
_LATEST: Final = 4.0
"""Seconds after which a question is asked anew: one that was lost with its connection is never answered."""
_FRESH: Final = 1.0
"""Seconds for which a late answer counts as one to the next question."""


class PendingQueries:
    """Asks, and remembers what is still unanswered.

    A question that gets no prompt answer raises `TimeoutError`, and stays open a few seconds longer; when
    its answer comes, ``late`` is called, and it is what the next `ask` returns if that follows at once. The
    next question waits long enough for such an answer.

    Args:
        scope: Owns the tasks.
        late: Called with the key of a question that was answered late.
        unheard: Called with an answer that no `ask` returns any more; it may hold a connection.
    """

    def __init__(
        self,
        scope: TaskScope,
        late: Callable[[Hashable], None],
        unheard: Callable[[object], None] = lambda answer: None,
    ) -> None:
        self._scope = scope
        self._late = late
        self._unheard = unheard
        self._open: dict[Hashable, asyncio.Task[Any]] = {}
        self._patience: dict[Hashable, float] = {}
        self._given_up: set[Hashable] = set()
        self._late_at: dict[Hashable, float] = {}

    async def ask(self, key: Hashable, question: Callable[[], Awaitable[T]], what: str) -> T:
        """The answer to a question, asked now or before.

        Args:
            key: Names the question; one that is open already is not asked twice.
            question: Asks it.
            what: Whose answer is awaited, for the error.

        Raises:
            TimeoutError: No answer came in time.
        """
        patience = self._patience.get(key, _PROMPT)
        while True:
            asked = self._open.get(key)
            if asked is not None and asked.done() and not self._is_fresh(key):
                self._pass_over(asked)
                asked = None
            if asked is None:
                asked = self._scope.spawn(self._answer(key, question, what), name=f"ask {what}")
                self._open[key] = asked
            self._given_up.discard(key)
            self._late_at.pop(key, None)
            await asyncio.wait({asked}, timeout=patience)
            if not asked.cancelled():
                break  # it was not renewed meanwhile
        if not asked.done():
            self._given_up.add(key)
            raise TimeoutError(f"{what} has not answered within {patience:.1f} s")
        if self._open.get(key) is asked:
            del self._open[key]
        answer: T | Exception = asked.result()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def patience_beyond_usual(self, key: Hashable) -> float:
        """Seconds for which an answer is awaited longer than usual, as the one before was slow."""
        return self._patience.get(key, _PROMPT) - _PROMPT

    def renew(self, key: Hashable) -> None:
        """Ask an open question anew: it was asked where nobody is any longer."""
        asked = self._open.pop(key, None)
        if asked is not None:
            self._pass_over(asked)

    def close(self) -> None:
        """Ask nothing more, and pass over all answers that nobody has asked for since."""
        for key in list(self._open):
            self.drop(key)

    def _pass_over(self, asked: "asyncio.Task[Any]") -> None:
        if not asked.cancel() and not asked.cancelled():
            self._unheard(asked.result())

    def drop(self, key: Hashable) -> None:
        """Ask no more; a question that is open is broken off."""
        self.renew(key)
        self._patience.pop(key, None)
        self._late_at.pop(key, None)
        self._given_up.discard(key)

    def _is_fresh(self, key: Hashable) -> bool:
        late_at = self._late_at.get(key)
        return late_at is not None and asyncio.get_running_loop().time() < late_at + _FRESH

    async def _answer(self, key: Hashable, question: Callable[[], Awaitable[T]], what: str) -> T | Exception:
        """The answer, or the error: nobody may be left to hear it."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with deadline(_LATEST, f"answer from {what}"):
                answer = await question()
        except Exception as error:  # noqa: BLE001 - whatever it is, `ask` raises it
            return error
        self._patience[key] = min(max(_PROMPT, 2 * (loop.time() - began)), _LATEST)
        if key in self._given_up:
            self._given_up.discard(key)
            self._late_at[key] = loop.time()
            # After this task has ended, so that its answer is there.
            loop.call_soon(self._late, key)
        return answer
