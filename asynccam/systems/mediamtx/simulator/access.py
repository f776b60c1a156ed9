"""Credentials of a simulated service: JWT, API keys and roles."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt

from asynccam.wall_clock import unix_now

ROLES: Final = ("viewer", "operator", "admin")
_ALGORITHM: Final = "HS256"
_NUMBER: Final = "number"
"""Claim of tokens issued here: their order."""


class BadCredentialError(Exception):
    """A token or key that is not accepted; its text is the service's ``reason``."""


@dataclass(frozen=True, slots=True)
class Credential:
    """An accepted token or key; times are Unix seconds, infinity for a key."""

    role: str
    method: str  # ``jwt`` or ``api_key``
    issued: float
    expires: float
    number: int | None = None  # counts the tokens issued here from 1; None for all others

    def allows(self, role: str) -> bool:
        """Return whether its role includes ``role``."""
        return ROLES.index(self.role) >= ROLES.index(role)


class Access:
    """Credentials that a service accepts: tokens signed with ``secret`` (HS256, random if empty) and keys."""

    def __init__(self, secret: str, api_keys: Mapping[str, str]) -> None:
        self._secret = secret or secrets.token_hex(32)
        self._api_keys = dict(api_keys)
        self._expired_before = 0.0
        self._issued = 0
        self._expired = 0

    def token(self, role: str, lifetime: float) -> str:
        """Issue a JWT for a role, valid for ``lifetime`` seconds; with a negative one it has expired."""
        # RFC 7519 4.1.4: "exp" is a time of day, which the reader compares with its own clock.
        now = unix_now()
        self._issued += 1
        claims: dict[str, Any] = {"user_id": f"simulated-{role}", "role": role, "iat": now}
        claims |= {"exp": now + lifetime, _NUMBER: self._issued}
        return jwt.encode(claims, self._secret, algorithm=_ALGORITHM)

    def expire_tokens(self) -> None:
        """Expire all tokens issued until now."""
        self._expired = self._issued  # by their order, because the clock may have been set in between
        self._expired_before = unix_now()

    def check(self, text: Any, auth_type: str) -> Credential:
        """Return the credential of a token or key; raise `BadCredentialError` if it is invalid or expired."""
        if not isinstance(text, str) or not text:
            raise BadCredentialError("missing_token")
        if auth_type in ("api_key", "auto") and text in self._api_keys:
            return Credential(self._api_keys[text], "api_key", float("inf"), float("inf"))
        if auth_type == "api_key":
            raise BadCredentialError("invalid_api_key")
        return self._token(text)

    def is_expired(self, credential: Credential) -> bool:
        """Return whether an accepted credential has expired since."""
        if credential.number is not None:
            revoked = credential.number <= self._expired
        else:
            revoked = credential.issued <= self._expired_before
        return revoked or unix_now() >= credential.expires

    def _token(self, text: str) -> Credential:
        try:
            # The library compares whole seconds only; "exp" is checked below. RFC 7519 4.1.6 does not let a
            # token be refused for its "iat", which is in the future once the clock was set back.
            claims = jwt.decode(
                text,
                self._secret,
                algorithms=[_ALGORITHM],
                options={"require": ["exp"], "verify_exp": False, "verify_iat": False},
            )
            # A token without "iat" counts as issued at the epoch.
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
