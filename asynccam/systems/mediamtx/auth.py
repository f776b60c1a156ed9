"""Authentication of a connection, detection of the service's generation, and tokens.

A service of generation 1 marks the most recently connected client as authenticated, regardless of the
caller. A client that authenticated successfully may then still be refused; a call that carries the token
authenticates its own connection. See docs/protocols/mediamtx.md, "Sign-in".
"""

import base64
import binascii
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from asynccam import errors
from asynccam.net.jsonrpc import JsonRpcConnection, RpcError
from asynccam.outside import is_bounded, read_json
from asynccam.systems.mediamtx.errors import (
    AuthenticationError,
    CameraNotFoundError,
    CameraServiceError,
    ConnectionError,
    PermissionDeniedError,
    service_error,
)
from asynccam.systems.mediamtx.models import AuthenticationResult
from asynccam.systems.mediamtx.settings import ServiceCredentials
from asynccam.wall_clock import unix_now

NO_SUCH_METHOD: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
NOT_AUTHENTICATED: Final = -32001

_PROBE: Final = "get_subscription_stats"
"""A method that only generation 2 has."""

MAX_EARLY: Final = 10.0
"""Seconds a service's clock may be behind the token issuer's, if its error message does not mention time."""
_MAX_EARLY_NAMED: Final = 60.0
"""The same if the message does."""
_EARLY_PHRASES: Final = (
    "not yet valid",
    "iat",
    "nbf",
    "not valid yet",
    "not active",
    "issued in the future",
)
_MAX_TOKEN: Final = 16 * 1024
"""Characters of a token that are decoded."""


@dataclass(slots=True)
class ServiceCapabilities:
    """Facts of one connection: the service's generation, the role and the methods."""

    generation: int
    secret: str | None = field(default=None, repr=False)  # that it was authenticated with
    role: str = ""
    missing: set[str] = field(default_factory=set)  # methods that the service does not have
    working: set[str] = field(default_factory=set)  # methods that have succeeded


async def open_session(link: JsonRpcConnection, credentials: ServiceCredentials) -> ServiceCapabilities:
    """Authenticate a new connection, or raise `AuthenticationError`, and detect the service's generation."""
    secret = await credentials.secret()
    role = ""
    if secret is not None:
        role, secret = await authenticate_with_fallback(link, credentials, secret)
    return ServiceCapabilities(await _detect_generation(link, secret), secret, role)


async def authenticate_with_fallback(
    link: JsonRpcConnection, credentials: ServiceCredentials, secret: str
) -> tuple[str, str]:
    """Authenticate, after a refusal with the second secret; return the role and the accepted secret."""
    try:
        return await authenticate(link, credentials, secret), secret
    except AuthenticationError as error:
        if error.may_pass or not credentials.swap():  # a secret that may only be too early is kept
            raise
        first = error
    second = await credentials.secret()
    assert second is not None  # swap() returned True
    try:
        return await authenticate(link, credentials, second), second
    except AuthenticationError as error:
        credentials.swap()
        first.args = (f"{first}; the second secret is refused as well",)
        raise first from error


async def authenticate(link: JsonRpcConnection, credentials: ServiceCredentials, secret: str) -> str:
    """Authenticate a connection, also again; return the role, ``""`` if the service does not send it."""
    # Older services read ``token``.
    params = {"auth_token": secret, "token": secret, "auth_type": credentials.auth_type}
    try:
        try:
            value = await link.call("authenticate", params)
        except RpcError as refusal:
            if refusal.code != INVALID_PARAMS:
                raise
            value = await link.call("authenticate", {"auth_token": secret})
    except RpcError as refusal:
        if refusal.code == NOT_AUTHENTICATED:
            message = str(translate_error(refusal, 2, secret))
            raise _refused(message, refusal.message, credentials, secret, refusal) from None
        raise CameraServiceError(
            redact(f"sign-in at {link.name} failed: {refusal.message} (code {refusal.code})", secret),
            code=refusal.code,
            method="authenticate",
        ) from None
    result = AuthenticationResult.read(value, method="authenticate")
    if not result.authenticated:
        reason = redact(result.error or "no reason given", secret)
        raise _refused(f"{link.name} refuses the credentials: {reason}", reason, credentials, secret, None)
    return result.role or ""


def _refused(
    text: str, reason: str, credentials: ServiceCredentials, secret: str, refusal: RpcError | None
) -> AuthenticationError:
    error = AuthenticationError(
        text + advice(secret, reason, provided=credentials.has_provider),
        code=0 if refusal is None else refusal.code,
        data=None if refusal is None else refusal.data,
        method="authenticate",
    )
    error.may_pass = may_be_early(secret, reason)
    return error


async def call_authenticated(
    link: JsonRpcConnection,
    capabilities: ServiceCapabilities,
    method: str,
    params: dict[str, Any] | None = None,
) -> Any:
    """Call a method on a new connection; generation 1 gets the token with a second call if it refuses."""
    try:
        return await link.call(method, params)
    except RpcError as refusal:
        if refusal.code != NOT_AUTHENTICATED or capabilities.generation != 1 or capabilities.secret is None:
            raise
        return await link.call(method, {**(params or {}), "auth_token": capabilities.secret})


async def _detect_generation(link: JsonRpcConnection, secret: str | None) -> int:
    try:
        await link.call(_PROBE)
    except RpcError as refusal:
        if refusal.code == NO_SUCH_METHOD:
            return 1
        if refusal.code != NOT_AUTHENTICATED:
            return 2
        if secret is not None:  # authenticated and still refused: the fault of generation 1
            return 1
        try:
            await link.call("ping")
        except RpcError:
            return 1
    return 2


def translate_error(error: errors.AsynccamError, generation: int, secret: str | None) -> errors.AsynccamError:
    """Convert an error of the layers below to the client's own, with the secret redacted."""
    if isinstance(error, RpcError):
        clean = RpcError(error.code, redact(error.message, secret), error.data, method=error.method)
        return service_error(clean, generation)
    if isinstance(error, CameraServiceError):
        return error
    if isinstance(error, errors.ConnectionError):
        return ConnectionError(str(error), maybe_executed=error.maybe_executed)
    if isinstance(error, errors.PermissionDeniedError):
        return PermissionDeniedError(str(error))
    if isinstance(error, errors.AuthenticationError):
        return AuthenticationError(str(error))
    if isinstance(error, errors.NotFoundError):
        return CameraNotFoundError(str(error))
    return error


@contextmanager
def translated_errors(generation: int = 2, secret: str | None = None) -> Iterator[None]:
    """Raise the errors of the layers below as `translate_error` converts them."""
    try:
        yield
    except errors.AsynccamError as error:
        problem = translate_error(error, generation, secret)
        if problem is error:
            raise
        raise problem from error


def redact(text: str, secret: str | None) -> str:
    """Replace the secret in a service's text."""
    return text.replace(secret, "***") if secret else text


# -- tokens -------------------------------------------------------------------------------------------
# JSON Web Tokens are only read here, not verified: the service alone has the key.


@dataclass(frozen=True, slots=True)
class TokenTimes:
    """Validity of a token in Unix seconds by its issuer's clock; None where it has no such claim."""

    begins: float | None = None  # the later one of ``iat`` and ``nbf``
    ends: float | None = None  # ``exp``


def token_times(secret: str) -> TokenTimes:
    """Read the times of a token; any other text, an API key for example, has none."""
    parts = secret.split(".")
    if len(parts) != 3 or len(secret) > _MAX_TOKEN:
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


def may_be_early(secret: str, reason: str, *, now: float | None = None) -> bool:
    """Return whether a refused token may become valid by itself, because a clock is behind its issuer's."""
    now = unix_now() if now is None else now  # by this computer's clock
    times = token_times(secret)
    if times.begins is None or (times.ends is not None and times.ends <= now):
        return False
    named = any(phrase in reason.lower() for phrase in _EARLY_PHRASES)
    return now < times.begins + (_MAX_EARLY_NAMED if named else MAX_EARLY)


def advice(secret: str | None, reason: str, *, provided: bool, now: float | None = None) -> str:
    """Return the probable cause of a refusal and the remedy, to be appended to the service's message."""
    if secret is None:
        return "; give a token or an API key"
    now = unix_now() if now is None else now
    times = token_times(secret)
    if may_be_early(secret, reason, now=now) and times.begins is not None:
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
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and is_bounded(value) else None
