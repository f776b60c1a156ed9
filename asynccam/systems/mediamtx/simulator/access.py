"""Who may do what at a simulated service: JWT and API keys, roles, and how often one may call."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt

from asynccam.wall_clock import unix_now

ROLES: Final = ("viewer", "operator", "admin")
_ALGORITHM: Final = "HS256"
_NUMBER: Final = "number"
"""A claim of tokens made here."""


class BadCredentialError(Exception):
    """A token or key that is not accepted; its words are the service's ``reason``."""


@dataclass(frozen=True, slots=True)
class Credential:
    """An accepted token or key.

    Attributes:
        role: One of `ROLES`.
        method: ``jwt`` or ``api_key``.
        issued: When the token was made, Unix seconds; infinity for a key.
        expires: When it ends, Unix seconds; infinity for a key.
        number: Which of the tokens made here it is, from 1; None for keys and for tokens made elsewhere.
    """

    role: str
    method: str
    issued: float
    expires: float
    number: int | None = None

    def allows(self, role: str) -> bool:
        """Whether it is enough for what needs ``role``."""
        return ROLES.index(self.role) >= ROLES.index(role)


class Access:
    """The credentials a service accepts.

    Args:
        secret: Signs tokens, HS256; a random one if empty.
        api_keys: Key -> role.
    """

    def __init__(self, secret: str, api_keys: Mapping[str, str]) -> None:
        self._secret = secret or secrets.token_hex(32)
        self._api_keys = dict(api_keys)
        self._expired_before = 0.0
        self._issued = 0
        self._expired = 0

    def token(self, role: str, lifetime: float) -> str:
        """A JWT for a role, good for ``lifetime`` seconds; one in the past is expired already."""
        # RFC 7519 4.1.4: a token's end is a time of day, which who reads it compares with its own clock.
        now = unix_now()
        self._issued += 1
        claims: dict[str, Any] = {"user_id": f"simulated-{role}", "role": role, "iat": now}
        claims |= {"exp": now + lifetime, _NUMBER: self._issued}
        return jwt.encode(claims, self._secret, algorithm=_ALGORITHM)

    def expire_tokens(self) -> None:
        """Whatever token was issued until now has expired."""
        self._expired = self._issued  # by their order, because the clock may have been set between
        self._expired_before = unix_now()

    def check(self, text: Any, auth_type: str) -> Credential:
        """The credential a client showed.

        Raises:
            BadCredentialError: It is missing, unknown, forged, or has expired.
        """
        if not isinstance(text, str) or not text:
            raise BadCredentialError("missing_token")
        if auth_type in ("api_key", "auto") and text in self._api_keys:
            return Credential(self._api_keys[text], "api_key", float("inf"), float("inf"))
        if auth_type == "api_key":
            raise BadCredentialError("invalid_api_key")
        return self._token(text)

    def is_expired(self, credential: Credential) -> bool:
        """Whether a credential that was accepted is so no longer."""
        if credential.number is not None:
            called_in = credential.number <= self._expired
        else:
            called_in = credential.issued <= self._expired_before
        return called_in or unix_now() >= credential.expires

    def _token(self, text: str) -> Credential:
        try:
            # The library knows whole seconds only; the end is checked below. RFC 7519 4.1.6 gives no reason
            # to refuse a token for when it was issued, which is ahead once the clock was set back.
            claims = jwt.decode(
                text,
                self._secret,
                algorithms=[_ALGORITHM],
                options={"require": ["exp"], "verify_exp": False, "verify_iat": False},
            )
            # A token without ``iat`` counts as issued at the dawn of time.
            issued, expires = float(claims.get("iat", 0.0)), float(claims["exp"])
        except (jwt.InvalidTokenError, TypeError, ValueError):
            raise BadCredentialError("invalid_token") from None
        role = claims.get("role")
        if role not in ROLES:
            raise BadCredentialError("invalid_role")
        number = claims.get(_NUMBER)
        credential = Credential(role, "jwt", issued, expires, number if isinstance(number, int) else None)
        if self.is_expired(credential):
            raise BadCredentialError("token_expired")
        return credential
