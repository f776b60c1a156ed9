"""One client of a simulated service: WebSocket frames, sign-in, roles, rate limits and faults."""

import asyncio
import itertools
import json
import struct
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from aiohttp import web

from asynccam.errors import BusyError
from asynccam.runtime.tasks import TaskScope, thread_errors
from asynccam.systems.mediamtx.simulator.access import Access, BadCredentialError, Credential
from asynccam.systems.mediamtx.simulator.behavior import ServiceWays
from asynccam.systems.mediamtx.simulator.cameras import time_value
from asynccam.systems.mediamtx.simulator.errors import RefusalReason, RefusedCall
from asynccam.systems.mediamtx.simulator.methods import Call, ServiceMethods
from asynccam.systems.mediamtx.simulator.service import ClientSession, SimulatedService

_BATCH: Final = 16
"""Messages that are read in one turn of the loop."""
_MAX_UNREAD: Final = 100_000
"""Documents queued for a client that does not read; then it is disconnected."""
_GARBAGE: Final = (
    "this is not JSON {",
    '{"jsonrpc": "2.0", "id": "nobody waits for this", "result": 1}',
    '{"jsonrpc": "2.0", "id": null, "error": {"code": -32603, "message": "Internal error"}}',
    '[1, "two", null]',
)
_AUTHENTICATE: Final = "authenticate"
_PERMISSIONS: Final = {
    "viewer": ["view"],
    "operator": ["view", "control"],
    "admin": ["view", "control", "admin"],
}


class Dispatcher:
    """Parses requests, checks sign-in, role and rate, and has them served."""

    def __init__(self, service: SimulatedService, access: Access) -> None:
        self._service = service
        self._access = access
        self._table = ServiceMethods(service).table()

    def parse(self, text: str | bytes) -> dict[str, Any]:
        """Return the request in a frame, or raise `RefusedCall`."""
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            raise RefusedCall(RefusalReason.UNREADABLE) from None
        if not isinstance(document, dict):
            generation_1 = self._service.ways.generation == 1
            raise RefusedCall(RefusalReason.INTERNAL if generation_1 else RefusalReason.NOT_A_REQUEST)
        return document

    async def respond(
        self, client: ClientSession, document: dict[str, Any]
    ) -> tuple[dict[str, Any], list[Callable[[], None]]]:
        """Serve a request; return the response, and the actions to run after it."""
        after: list[Callable[[], None]] = []
        response: dict[str, Any] = {"jsonrpc": "2.0"}
        self._service.requests += 1
        try:
            with thread_errors():
                response["result"] = await self._result(client, document, after)
        except (RefusedCall, BusyError) as error:
            internal = RefusedCall(RefusalReason.INTERNAL, detail=str(error))
            refusal = error if isinstance(error, RefusedCall) else internal
            self._service.errors += 1
            response["error"] = refusal.document(self._service.ways)
        response["id"] = document.get("id")
        return response, after

    async def _result(
        self, client: ClientSession, document: dict[str, Any], after: list[Callable[[], None]]
    ) -> Any:
        method, params = document.get("method"), document.get("params", {})
        if document.get("jsonrpc") != "2.0" or not isinstance(method, str):
            raise RefusedCall(RefusalReason.NOT_A_REQUEST)
        entry = self._table.get(method)
        if entry is None and method != _AUTHENTICATE:
            raise RefusedCall(RefusalReason.NO_METHOD, {"method": method})
        self._check_rate(client)
        if params is None:
            params = {}
        if not isinstance(params, dict):
            raise RefusedCall(RefusalReason.PARAMS, detail="params must be an object")
        if entry is None:
            return self._authenticate(client, params)
        role, handler = entry
        if role is not None:
            self._authorize(client, role, params)
        if method in self._service.faults.inner_errors:
            raise RefusedCall(RefusalReason.INTERNAL)
        return await handler(Call(client, method, params, after))

    def _check_rate(self, client: ClientSession) -> None:
        ways, now = self._service.ways, time.monotonic()
        if ways.rate_limit is None:
            return
        while client.recent and client.recent[0] <= now - ways.rate_window:
            client.recent.popleft()
        if len(client.recent) >= ways.rate_limit:
            wait = client.recent[0] + ways.rate_window - now
            data = {"retry_after_ms": int(wait * 1000) + 1} if ways.generation == 2 else None
            raise RefusedCall(RefusalReason.RATE, data)
        client.recent.append(now)

    # -- sign-in ----------------------------------------------------------------------------------

    def _authenticate(self, client: ClientSession, params: dict[str, Any]) -> dict[str, Any]:
        ways = self._service.ways
        if ways.strict_sign_in and params.keys() - {"auth_token"}:
            raise RefusedCall(RefusalReason.PARAMS, detail="authenticate takes auth_token only")
        auth_type = params.get("auth_type", "auto")
        try:
            if self._is_locked(client):
                raise BadCredentialError("token_expired")
            credential = self._access.check(_sign_in_token(params, ways), auth_type)
        except BadCredentialError as error:
            if ways.failure_is_result:
                return {"authenticated": False, "error": f"Authentication failed: {error}"}
            raise RefusedCall(RefusalReason.SIGN_IN, {"reason": str(error)}) from None
        # The fault of generation 1: the client that connected last is signed in, regardless of the caller.
        signed_in = self._service.clients[-1] if ways.sign_in_fault and self._service.clients else client
        signed_in.credential = credential
        result: dict[str, Any] = {"authenticated": True, "role": credential.role}
        if credential.method == "jwt":
            result["expires_at"] = time_value(credential.expires, ways)
        if ways.generation == 1:
            return {**result, "auth_method": credential.method}
        permissions = _PERMISSIONS[credential.role]
        return {**result, "permissions": permissions, "session_id": f"session_{client.number}"}

    def _authorize(self, client: ClientSession, role: str, params: dict[str, Any]) -> None:
        """Refuse a call unless its connection, or the call itself, is signed in with this role."""
        if self._is_locked(client):
            raise RefusedCall(RefusalReason.SIGN_IN, {"reason": "token_expired"})
        credential = client.credential
        if credential is not None and self._access.is_expired(credential):
            raise RefusedCall(RefusalReason.SIGN_IN, {"reason": "token_expired"})
        if credential is None:
            credential = client.credential = self._credential_of_call(params)
        if not credential.allows(role):
            data = {"required_role": role, "have_role": credential.role}
            raise RefusedCall(RefusalReason.ROLE, data)

    def _credential_of_call(self, params: dict[str, Any]) -> Credential:
        if not self._service.ways.token_per_call or "auth_token" not in params:
            raise RefusedCall(RefusalReason.SIGN_IN, {"reason": "not_authenticated"})
        try:
            return self._access.check(params["auth_token"], "auto")
        except BadCredentialError as error:
            raise RefusedCall(RefusalReason.SIGN_IN, {"reason": str(error)}) from None

    def _is_locked(self, client: ClientSession) -> bool:
        if self._service.ways.expiry_sticks and client.credential is not None:
            client.locked = client.locked or self._access.is_expired(client.credential)
        return client.locked


def _sign_in_token(params: dict[str, Any], ways: ServiceWays) -> object:
    """Return the token of ``authenticate``; generation 1 takes it under either name."""
    if ways.reads_only_token:
        return params.get("token")
    if ways.generation == 1 and params.get("auth_token") is None:
        return params.get("token")
    return params.get("auth_token")


@dataclass(frozen=True, slots=True)
class _OutgoingFrame:
    text: str
    binary: bool = False
    cut: bool = False


class ClientConnection:
    """A WebSocket connection to the service; ``flowing`` is cleared while the service is frozen."""

    def __init__(
        self,
        number: int,
        socket: web.WebSocketResponse,
        request: web.Request,
        service: SimulatedService,
        dispatcher: Dispatcher,
        flowing: asyncio.Event,
    ) -> None:
        self.session = ClientSession(number, self.post)
        self._socket = socket
        self._request = request
        self._service = service
        self._dispatcher = dispatcher
        self._flowing = flowing
        self._turn = asyncio.Lock()
        self._outbox: asyncio.Queue[_OutgoingFrame] = asyncio.Queue(_MAX_UNREAD)

    async def run(self) -> None:
        """Serve the client until it disconnects; its running calls are served to the end."""
        name = f"client {self.session.number}"
        async with TaskScope(name) as scope:
            scope.spawn(self._write(), name="writer")
            for count in itertools.count(1):
                message = await self._socket.receive()
                if count % _BATCH == 0:
                    await asyncio.sleep(0)  # aiohttp does not suspend while there are messages
                await self._flowing.wait()
                if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                    self._service.scope.spawn(self._serve(message.data), name=f"call of {name}")
                elif message.type is aiohttp.WSMsgType.PING:
                    await self._pong(message.data)
                elif message.type is not aiohttp.WSMsgType.PONG:
                    return

    def post(self, document: Any) -> None:
        """Queue a document."""
        self._put(_OutgoingFrame(json.dumps(document)))

    def drop(self) -> None:
        """Abort the connection without a close frame."""
        if self._request.transport is not None:
            self._request.transport.abort()

    async def aclose(self, code: int, reason: str) -> None:
        """Close the WebSocket."""
        if not self._socket.closed:
            await self._socket.close(code=code, message=reason.encode())

    async def _pong(self, data: bytes) -> None:
        try:
            await self._socket.pong(data)
        except ConnectionError:
            self.drop()  # which ends the reader

    async def _serve(self, data: str | bytes) -> None:
        try:
            document = self._dispatcher.parse(data)
        except RefusedCall as refusal:
            self.post({"jsonrpc": "2.0", "error": refusal.document(self._service.ways), "id": None})
            return
        async with self._turn if self._service.ways.serial else nullcontext():
            await self._respond(document)

    async def _respond(self, document: dict[str, Any]) -> None:
        faults, method = self._service.faults, str(document.get("method"))
        if method in faults.silent:
            return
        response, after = await self._dispatcher.respond(self.session, document)
        if faults.answer_delay:
            await asyncio.sleep(faults.answer_delay)
        if "id" in document:
            self._post_response(response, cut="result" in response and method in faults.cut_answers)
        for action in after:
            action()

    def _post_response(self, response: dict[str, Any], *, cut: bool) -> None:
        faults = self._service.faults
        if faults.string_ids:
            response["id"] = str(response["id"])
        if faults.metadata:
            response["metadata"] = {"processing_time_ms": 1, "server": "simulated"}
        for text in _GARBAGE if faults.garbage else ():
            self._put(_OutgoingFrame(text))
        for _ in range(2 if faults.answer_twice else 1):
            self._put(_OutgoingFrame(json.dumps(response), faults.binary, cut))

    def _put(self, frame: _OutgoingFrame) -> None:
        try:
            self._outbox.put_nowait(frame)
        except asyncio.QueueFull:
            self.drop()

    async def _write(self) -> None:
        while not self._socket.closed:
            frame = await self._outbox.get()
            await self._flowing.wait()
            try:
                if frame.cut:
                    self._send_half(frame)
                elif frame.binary:
                    await self._socket.send_bytes(frame.text.encode())
                else:
                    await self._socket.send_str(frame.text)
            except ConnectionError:
                return  # the reader ends too

    def _send_half(self, frame: _OutgoingFrame) -> None:
        payload = frame.text.encode()
        # RFC 6455 5.2: FIN and opcode text, then the length in 7, 16 or 64 bits.
        if len(payload) > 0xFFFF:
            head = struct.pack("!BBQ", 0x81, 127, len(payload))
        elif len(payload) > 125:
            head = struct.pack("!BBH", 0x81, 126, len(payload))
        else:
            head = struct.pack("!BB", 0x81, len(payload))
        transport = self._request.transport
        if transport is not None:
            transport.write(head + payload[: len(payload) // 2])
        self.drop()
