"""Making a fresh connection usable: sign in, find out the generation, survive the sign-in fault.

A service of generation 1 marks the most recently connected client as signed in, whoever asked, so
a client whose sign-in succeeded may still be refused. A call that carries the token signs its own
connection in. See docs/protocols/mediamtx.md, "Sign-in".
"""

from dataclasses import dataclass, field
from typing import Any, Final

from asynccam import errors
from asynccam.net.jsonrpc import JsonRpcConnection, RpcError
from asynccam.systems.mediamtx.errors import (
    AuthenticationError,
    CameraNotFoundError,
    CameraServiceError,
    ConnectionError,
    PermissionDeniedError,
    service_error,
)
from asynccam.systems.mediamtx.models import SignIn
from asynccam.systems.mediamtx.settings import Credentials
from asynccam.systems.mediamtx.tokens import advice, may_be_early

NO_SUCH_METHOD: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
NOT_SIGNED_IN: Final = -32001

_PROBE: Final = "get_subscription_stats"
"""A method only generation 2 has."""


@dataclass(slots=True)
class LinkFacts:
    """What is known of the service at the other end of one connection.

    Attributes:
        generation: 1 or 2.
        secret: What it was signed in with, or None.
        role: The role the service gave us, or ``""``.
        missing: Methods the service said it does not have.
        working: Methods it has answered.
    """

    generation: int
    secret: str | None = field(default=None, repr=False)
    role: str = ""
    missing: set[str] = field(default_factory=set)
    working: set[str] = field(default_factory=set)


async def sign_in(link: JsonRpcConnection, credentials: Credentials) -> LinkFacts:
    """Sign a fresh connection in, if there is something to do it with, and find out the generation.

    Raises:
        AuthenticationError: The credentials are refused.
        ConnectionError: The connection went, or there is no token for the moment.
        CameraServiceError: The service fails in another way.
    """
    secret = await credentials.secret()
    role = ""
    if secret is not None:
        role, secret = await authenticate_by_any(link, credentials, secret)
    return LinkFacts(await _generation(link, secret), secret, role)


async def authenticate_by_any(
    link: JsonRpcConnection, credentials: Credentials, secret: str
) -> tuple[str, str]:
    """Sign in as `authenticate` does, and with the second secret where the first one is refused.

    Returns:
        The role, and the secret that was accepted.

    Raises:
        AuthenticationError: Both are refused, or the first one where it may only be early or is the only one.
        ConnectionError: The connection went, or there is no token for the moment.
        CameraServiceError: The service fails in another way.
    """
    try:
        return await authenticate(link, credentials, secret), secret
    except AuthenticationError as error:
        if error.may_pass or not credentials.turn():
            raise
        first = error
    other = await credentials.secret()
    assert other is not None  # a second secret is one
    try:
        return await authenticate(link, credentials, other), other
    except AuthenticationError as error:
        credentials.turn()
        first.args = (f"{first}; the second secret is refused as well",)
        raise first from error


async def authenticate(link: JsonRpcConnection, credentials: Credentials, secret: str) -> str:
    """Sign in, or sign in again, on a connection.

    Returns:
        The role, or ``""`` if the service does not tell.

    Raises:
        AuthenticationError: The credentials are refused.
        CameraServiceError: The service fails in another way.
    """
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
        if refusal.code == NOT_SIGNED_IN:
            clean = translated(refusal, 2, secret)
            raise _refused(str(clean), refusal.message, credentials, secret, refusal) from None
        raise CameraServiceError(
            hidden(f"sign-in at {link.name} failed: {refusal.message} (code {refusal.code})", secret),
            code=refusal.code,
            method="authenticate",
        ) from None
    answer = SignIn.read(value, method="authenticate")
    if not answer.authenticated:
        why = hidden(answer.error or "no reason given", secret)
        raise _refused(f"{link.name} refuses the credentials: {why}", why, credentials, secret, None)
    return answer.role or ""


def _refused(
    text: str, words: str, credentials: Credentials, secret: str, refusal: RpcError | None
) -> AuthenticationError:
    """The error for a refused sign-in: what to do, and whether another try may succeed."""
    error = AuthenticationError(
        text + advice(secret, words, provided=credentials.provided),
        code=0 if refusal is None else refusal.code,
        data=None if refusal is None else refusal.data,
        method="authenticate",
    )
    error.may_pass = may_be_early(secret, words)
    return error


async def ask(
    link: JsonRpcConnection, facts: LinkFacts, method: str, params: dict[str, Any] | None = None
) -> Any:
    """One call during sign-in, with the sign-in fault survived.

    Raises:
        RpcError: The service refuses.
        ConnectionError, TimeoutError: The connection went, or nothing came.
    """
    try:
        return await link.call(method, params)
    except RpcError as refusal:
        if refusal.code != NOT_SIGNED_IN or facts.generation != 1 or facts.secret is None:
            raise
        return await link.call(method, {**(params or {}), "auth_token": facts.secret})


async def _generation(link: JsonRpcConnection, secret: str | None) -> int:
    try:
        await link.call(_PROBE)
    except RpcError as refusal:
        if refusal.code == NO_SUCH_METHOD:
            return 1
        if refusal.code != NOT_SIGNED_IN:
            return 2
        if secret is not None:  # signed in and refused all the same: the fault of generation 1
            return 1
        try:
            await link.call("ping")
        except RpcError:
            return 1
    return 2


def translated(error: errors.AsynccamError, generation: int, secret: str | None) -> errors.AsynccamError:
    """The client's own exception for one of the layer below; credentials are cut out of its words."""
    if isinstance(error, RpcError):
        clean = RpcError(error.code, hidden(error.message, secret), error.data, method=error.method)
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


def hidden(text: str, secret: str | None) -> str:
    """The text without the secret, should a service repeat it."""
    return text.replace(secret, "***") if secret else text
