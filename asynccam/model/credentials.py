"""What a camera service wants to see before it answers."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

TokenProvider = Callable[[], Awaitable[str]]
"""Gives a valid token; asked at every sign-in, so that it can renew what expires."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A token or an API key, for the systems that have them; neither shows in ``repr``.

    Attributes:
        token: A JWT or other bearer token, or what provides one.
        api_key: A key; used where no token is given.
    """

    token: str | TokenProvider | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
