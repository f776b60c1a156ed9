"""What a JSON Web Token says of its own validity, and what to do about one that was refused.

Nothing is verified here: the service alone knows the key. See docs/protocols/mediamtx.md, "Sign-in".
"""

import base64
import binascii
import math
from dataclasses import dataclass
from typing import Any, Final

from asynccam.outside import read_json
from asynccam.wall_clock import unix_now

MOST_EARLY: Final = 10.0
"""Seconds a service's clock may be behind the token's issuer's, where its words say nothing of it."""
_NAMED_EARLY: Final = 60.0
"""The same for a service whose words name the fault."""
_EARLY_WORDS: Final = ("not yet valid", "iat", "nbf", "not valid yet", "not active", "issued in the future")
_LARGEST: Final = 16 * 1024
"""Characters of a token that are looked at."""


@dataclass(frozen=True, slots=True)
class TokenTimes:
    """When a token is valid, Unix seconds by its issuer's clock; None where it does not say.

    Attributes:
        begins: The later one of ``iat`` and ``nbf``.
        ends: ``exp``.
    """

    begins: float | None = None
    ends: float | None = None


def token_times(secret: str) -> TokenTimes:
    """Read the times of a token; any other text, an API key for example, has none."""
    parts = secret.split(".")
    if len(parts) != 3 or len(secret) > _LARGEST:
        return TokenTimes()
    # RFC 7515, section 2: base64url without its padding.
    padded = parts[1] + "=" * (-len(parts[1]) % 4)
    try:
        claims = read_json(base64.urlsafe_b64decode(padded))
    except (binascii.Error, ValueError):
        return TokenTimes()
    if not isinstance(claims, dict):
        return TokenTimes()
    begins = [moment for name in ("iat", "nbf") if (moment := _moment(claims.get(name))) is not None]
    return TokenTimes(max(begins, default=None), _moment(claims.get("exp")))


def may_be_early(secret: str, words: str, *, now: float | None = None) -> bool:
    """Return whether a refused token may become valid by itself, because a clock is behind its issuer's.

    Args:
        secret: What was refused.
        words: The service's.
        now: Unix seconds; by default this computer's clock.
    """
    now = unix_now() if now is None else now
    times = token_times(secret)
    if times.begins is None or (times.ends is not None and times.ends <= now):
        return False
    named = any(word in words.lower() for word in _EARLY_WORDS)
    return now < times.begins + (_NAMED_EARLY if named else MOST_EARLY)


def advice(secret: str | None, words: str, *, provided: bool, now: float | None = None) -> str:
    """Say why a token may have been refused and what to do, to be put behind the service's words.

    Args:
        secret: What was refused.
        words: The service's.
        provided: Whether a token provider gave it.
        now: Unix seconds; by default this computer's clock.
    """
    if secret is None:
        return "; give a token or an API key"
    now = unix_now() if now is None else now
    times = token_times(secret)
    if may_be_early(secret, words, now=now) and times.begins is not None:
        ahead = times.begins - now
        when = f"{ahead:.0f} s from now" if ahead > 0 else f"since {-ahead:.0f} s"
        return (
            f"; the token is valid {when} by this computer's clock and may be too early for the service's: "
            "compare the clocks of the service, of this computer and of the token's issuer"
        )
    renew = (
        "the token provider has to give a new one"
        if provided
        else "give a new one with set_credentials(), a token provider instead, or an API key beside it"
    )
    if times.ends is not None and times.ends <= now:
        return f"; the token expired {now - times.ends:.0f} s ago: {renew}"
    return f"; {renew}"


def _moment(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        moment = float(value)
    except OverflowError:
        return None
    return moment if math.isfinite(moment) else None
