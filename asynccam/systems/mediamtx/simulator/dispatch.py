"""From a frame's text to what is answered: reading requests, sign-in, roles, rate limits."""

import json
import time
from collections.abc import Callable
from typing import Any

from asynccam.errors import BusyError
from asynccam.runtime.threads import thread_errors
from asynccam.systems.mediamtx.simulator.access import Access, BadCredentialError, Credential
from asynccam.systems.mediamtx.simulator.behavior import ServiceWays
from asynccam.systems.mediamtx.simulator.calls import Call, Caller
from asynccam.systems.mediamtx.simulator.cameras import told_time
from asynccam.systems.mediamtx.simulator.errors import Refusal, Why
from asynccam.systems.mediamtx.simulator.methods_v1 import Methods
from asynccam.systems.mediamtx.simulator.methods_v2 import MoreMethods
from asynccam.systems.mediamtx.simulator.service import Service

_SIGN_IN = "authenticate"
_PERMISSIONS = {
    "viewer": ["view"],
    "operator": ["view", "control"],
    "admin": ["view", "control", "admin"],
}


class Dispatcher:
    """Reads requests and has them carried out.

    Args:
        service: Carries them out.
        access: Knows who may.
    """

    def __init__(self, service: Service, access: Access) -> None:
        self._service = service
        self._access = access
        generation = service.ways.generation
        self._table = (Methods if generation == 1 else MoreMethods)(service).table()

    def read(self, text: str | bytes) -> dict[str, Any]:
        """The request in a frame.

        Raises:
            Refusal: It holds none.
        """
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            raise Refusal(Why.UNREADABLE) from None
        if not isinstance(document, dict):
            raise Refusal(Why.INTERNAL if self._service.ways.generation == 1 else Why.NOT_A_REQUEST)
        return document

    async def answer(
        self, caller: Caller, document: dict[str, Any]
    ) -> tuple[dict[str, Any], list[Callable[[], None]]]:
        """Carry a request out.

        Returns:
            The answer, to be sent unless the request has no id, and what is done after it.
        """
        after: list[Callable[[], None]] = []
        answer: dict[str, Any] = {"jsonrpc": "2.0"}
        self._service.requests += 1
        try:
            try:
                with thread_errors():
                    answer["result"] = await self._result(caller, document, after)
            except BusyError as error:
                raise Refusal(Why.INTERNAL, detail=str(error)) from error
        except Refusal as refusal:
            self._service.errors += 1
            answer["error"] = refusal.document(self._service.ways)
        answer["id"] = document.get("id")
        return answer, after

    async def _result(self, caller: Caller, document: dict[str, Any], after: list[Callable[[], None]]) -> Any:
        method, params = document.get("method"), document.get("params", {})
        if document.get("jsonrpc") != "2.0" or not isinstance(method, str):
            raise Refusal(Why.NOT_A_REQUEST)
        entry = self._table.get(method)
        if entry is None and method != _SIGN_IN:
            raise Refusal(Why.NO_METHOD, {"method": method})
        self._count(caller)
        if params is None:
            params = {}
        if not isinstance(params, dict):
            raise Refusal(Why.PARAMS, detail="params must be an object")
        if entry is None:
            return self._authenticate(caller, params)
        if entry.role is not None:
            self._admit(caller, entry.role, params)
        if method in self._service.faults.inner_errors:
            raise Refusal(Why.INTERNAL)
        return await entry.handler(Call(caller, method, params, after))

    def _count(self, caller: Caller) -> None:
        ways, now = self._service.ways, time.monotonic()
        if ways.rate_limit is None:
            return
        while caller.recent and caller.recent[0] <= now - ways.rate_window:
            caller.recent.popleft()
        if len(caller.recent) >= ways.rate_limit:
            wait = caller.recent[0] + ways.rate_window - now
            data = {"retry_after_ms": int(wait * 1000) + 1} if ways.generation == 2 else None
            raise Refusal(Why.RATE, data)
        caller.recent.append(now)

    # -- sign-in ----------------------------------------------------------------------------------

    def _authenticate(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        ways = self._service.ways
        if ways.strict_sign_in and params.keys() - {"auth_token"}:
            raise Refusal(Why.PARAMS, detail="authenticate takes auth_token only")
        auth_type = params.get("auth_type", "auto")
        try:
            if self._is_spoilt(caller):
                raise BadCredentialError("token_expired")
            credential = self._access.check(_sign_in_token(params, ways), auth_type)
        except BadCredentialError as error:
            if ways.failure_is_result:
                return {"authenticated": False, "error": f"Authentication failed: {error}"}
            raise Refusal(Why.SIGN_IN, {"reason": str(error)}) from None
        # The fault: whoever connected last is signed in, whoever asked.
        signed_in = self._service.callers[-1] if ways.sign_in_fault and self._service.callers else caller
        signed_in.credential = credential
        return self._welcome(caller, credential)

    def _welcome(self, caller: Caller, credential: Credential) -> dict[str, Any]:
        told: dict[str, Any] = {"authenticated": True, "role": credential.role}
        if credential.method == "jwt":
            told["expires_at"] = told_time(credential.expires, self._service.ways)
        if self._service.ways.generation == 1:
            told["auth_method"] = credential.method
        else:
            told["permissions"] = _PERMISSIONS[credential.role]
            told["session_id"] = f"session_{caller.number}"
        return told

    def _admit(self, caller: Caller, role: str, params: dict[str, Any]) -> None:
        """Let a call through only if its connection may make it."""
        if self._is_spoilt(caller):
            raise Refusal(Why.SIGN_IN, {"reason": "token_expired"})
        credential = caller.credential
        if credential is not None and self._access.is_expired(credential):
            raise Refusal(Why.SIGN_IN, {"reason": "token_expired"})
        if credential is None:
            credential = caller.credential = self._carried(params)
        if not credential.allows(role):
            raise Refusal(Why.ROLE, {"required_role": role, "have_role": credential.role})

    def _carried(self, params: dict[str, Any]) -> Credential:
        """The credential of a call that brings its own."""
        if not self._service.ways.token_per_call or "auth_token" not in params:
            raise Refusal(Why.SIGN_IN, {"reason": "not_authenticated"})
        try:
            return self._access.check(params["auth_token"], "auto")
        except BadCredentialError as error:
            raise Refusal(Why.SIGN_IN, {"reason": str(error)}) from None

    def _is_spoilt(self, caller: Caller) -> bool:
        credential = caller.credential
        if self._service.ways.expiry_sticks and credential is not None:
            caller.spoilt = caller.spoilt or self._access.is_expired(credential)
        return caller.spoilt


def _sign_in_token(params: dict[str, Any], ways: ServiceWays) -> object:
    """Return the token of ``authenticate``; generation 1 takes it under either name."""
    if ways.reads_only_token:
        return params.get("token")
    if ways.generation == 1 and params.get("auth_token") is None:
        return params.get("token")
    return params.get("auth_token")
