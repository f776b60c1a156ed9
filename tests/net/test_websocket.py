"""The rules of RFC 6455 for a client, in the order of the Autobahn test suite, against a server by hand.

Every exchange is sent whole and byte by byte: messages of one text frame go another way than all others.
"""

import asyncio
import logging
import ssl
import struct
import tracemalloc
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from asynccam.errors import ConnectionError, TimeoutError
from asynccam.net.websocket import MAX_MESSAGE, Room, WebSocket, WebSocketOptions, open_websocket
from tests.support.raw_websocket import BINARY, CLOSE, CONT, FIN, PING, PONG, TEXT, RawPeer, close, frame
from tests.support.waiting import eventually

MARK = b"all was read"
HELLO = frame(TEXT, b"Hello")
GREETING = "Hello-\u00b5@\u00df\u00f6\u00e4\u00fc\u00e0\u00e1-UTF-8!!".encode()


@dataclass
class Exchange:
    """Effects of the bytes that a server sent."""

    messages: list[bytes] = field(default_factory=list)
    pongs: list[bytes] = field(default_factory=list)
    close_code: int | None = None  # of the client's close frame; 1005 for one without


@asynccontextmanager
async def connected(
    messages: list[bytes],
    *,
    max_message: int = MAX_MESSAGE,
    room: Room | None = None,
) -> AsyncIterator[tuple[WebSocket, RawPeer]]:
    def receive(message: bytes) -> None:
        messages.append(message)

    options = WebSocketOptions(ping_interval=None, max_message=max_message)
    async with RawPeer() as peer:
        opening = asyncio.create_task(open_websocket(peer.url, receive, options, room=room))
        await peer.respond()
        socket = await opening
        try:
            yield socket, peer
        finally:
            await socket.abort()


async def exchange(pieces: Iterable[bytes], *, max_message: int = MAX_MESSAGE) -> Exchange:
    """Send pieces and then a ping, and return what the client did before its answer to that, or its end."""
    seen = Exchange()
    async with connected(seen.messages, max_message=max_message) as (_, peer):
        await peer.send([*pieces, frame(PING, MARK)])
        while (got := await peer.read()) is not None and got != (FIN | PONG, MARK):
            first, payload = got
            if first == FIN | PONG:
                seen.pongs.append(payload)
            else:
                assert first == FIN | CLOSE
                seen.close_code = int.from_bytes(payload[:2], "big") if payload else 1005
    return seen


def bytes_of(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


async def assert_exchange(sent: bytes, expected: Exchange, *, max_message: int = MAX_MESSAGE) -> None:
    """Check an exchange sent whole, and by the byte if that is not endless."""
    assert await exchange([sent], max_message=max_message) == expected
    if len(sent) <= 400:
        assert await exchange(bytes_of(sent), max_message=max_message) == expected


# -- 1: messages --------------------------------------------------------------------------------

SIZES = [0, 1, 125, 126, 127, 128, 65535, 65536, 100_000]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_message_of_any_size_is_delivered(opcode: int, size: int) -> None:
    message = b"*" * size
    await assert_exchange(HELLO + frame(opcode, message) + HELLO, Exchange([b"Hello", message, b"Hello"]))


@pytest.mark.parametrize("size", [1000, 65535, 65536])
async def test_message_in_pieces_is_delivered(size: int) -> None:
    message = bytes(ord("a") + number % 26 for number in range(size))
    data = frame(TEXT, message) + HELLO
    pieces = [data[at : at + 997] for at in range(0, len(data), 997)]
    assert await exchange(pieces) == Exchange([message, b"Hello"])


@pytest.mark.parametrize("size", SIZES)
async def test_sent_message_is_one_masked_text_frame(size: int) -> None:
    message = bytes(ord("a") + number % 26 for number in range(size))
    async with connected([]) as (socket, peer):
        socket.send(message)
        socket.send(b"next")
        assert await peer.read() == (FIN | TEXT, message)
        assert await peer.read() == (FIN | TEXT, b"next")


async def test_sent_messages_have_different_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asynccam.net.websocket._MASKS", 3)
    async with connected([]) as (socket, _):
        masks = {socket._text_frame(b"")[2:] for _ in range(10)}
    assert len(masks) == 10


# -- 2: pings and pongs -------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", b"Hello", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125])
async def test_ping_is_answered_with_its_payload(payload: bytes) -> None:
    await assert_exchange(frame(PING, payload), Exchange(pongs=[payload]))


async def test_ping_longer_than_125_bytes_fails() -> None:
    await assert_exchange(frame(PING, b"*" * 126), Exchange(close_code=1002))


async def test_pings_are_answered_in_order() -> None:
    payloads = [b"payload-%d" % number for number in range(10)]
    sent = b"".join(frame(PING, payload) for payload in payloads)
    await assert_exchange(sent, Exchange(pongs=payloads))


@pytest.mark.parametrize("payload", [b"", b"unsolicited"])
async def test_unsolicited_pong_is_ignored(payload: bytes) -> None:
    sent = frame(PONG, payload) + HELLO + frame(PING, b"a")
    await assert_exchange(sent, Exchange([b"Hello"], [b"a"]))


# -- 3 and 4: reserved bits and opcodes ----------------------------------------------------------


@pytest.mark.parametrize("rsv", range(1, 8))
@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, CLOSE])
async def test_reserved_bit_fails(opcode: int, rsv: int) -> None:
    sent = HELLO + frame(opcode, b"", rsv=rsv) + HELLO
    await assert_exchange(sent, Exchange([b"Hello"], close_code=1002))


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
@pytest.mark.parametrize("payload", [b"", b"reserved opcode payload"])
async def test_reserved_opcode_fails(opcode: int, payload: bytes) -> None:
    sent = HELLO + frame(opcode, payload) + frame(PING)
    await assert_exchange(sent, Exchange([b"Hello"], close_code=1002))


@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING])
@pytest.mark.parametrize("length", [3, 126])
async def test_masked_frame_of_a_server_fails(opcode: int, length: int) -> None:
    plain = frame(opcode, b"*" * length if opcode != PING else b"abc")
    masked = plain[:1] + bytes([plain[1] | 0x80]) + plain[2:] + bytes(4)
    await assert_exchange(HELLO + masked, Exchange([b"Hello"], close_code=1002))


# -- 5: fragments -------------------------------------------------------------------------------


@pytest.mark.parametrize("opcode", [PING, PONG])
async def test_fragmented_control_frame_fails(opcode: int) -> None:
    sent = frame(opcode, b"fragment1", fin=False) + frame(CONT, b"fragment2")
    await assert_exchange(sent, Exchange(close_code=1002))


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("parts", [[b"a", b"b"], [b"", b""], [b"", b"middle", b""], [b"1", b"2", b"3", b"4"]])
async def test_fragments_are_one_message(opcode: int, parts: list[bytes]) -> None:
    first, *rest = parts
    sent = frame(opcode, first, fin=False)
    for number, part in enumerate(rest, 1):
        sent += frame(PING, b"%d" % number) + frame(CONT, part, fin=number == len(rest))
    pongs = [b"%d" % number for number in range(1, len(parts))]
    await assert_exchange(sent + HELLO, Exchange([b"".join(parts), b"Hello"], pongs))


@pytest.mark.parametrize("fin", [True, False])
async def test_continuation_of_nothing_fails(fin: bool) -> None:
    sent = HELLO + frame(CONT, b"non-continuation payload", fin=fin) + HELLO
    await assert_exchange(sent, Exchange([b"Hello"], close_code=1002))


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("fin", [True, False])
async def test_message_inside_another_fails(opcode: int, fin: bool) -> None:
    sent = frame(TEXT, b"fragment1", fin=False) + frame(opcode, b"another", fin=fin)
    await assert_exchange(sent + frame(CONT, b"fragment2"), Exchange(close_code=1002))


async def test_continuation_after_the_last_fails() -> None:
    sent = frame(TEXT, b"a", fin=False) + frame(CONT, b"b") + frame(CONT, b"c")
    await assert_exchange(sent, Exchange([b"ab"], close_code=1002))


# -- 6: UTF-8 -----------------------------------------------------------------------------------

VALID = [
    GREETING,
    "\u03ba\u1f79\u03c3\u03bc\u03b5".encode(),
    "\ud7ff\ue000\ufffd\U0010ffff".encode(),
    b"\x00\x7f",
    "\ufeff\ufffe\uffff\U0001fffe".encode(),
]
INVALID = [
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",  # half of a surrogate pair
    b"\xf4\x90\x80\x80",  # beyond U+10FFFF
    b"\x80",  # a continuation byte alone
    b"\xbf\x80",
    b"\xc0 \xc1 ",  # first bytes without their second
    b"\xe0\x80",  # cut off
    b"\xc0\xaf",  # overlong
    b"\xf0\x80\x80\xaf",
    b"\xfe\xfe\xff\xff",
    b"Latin-1: \xe4",
]


@pytest.mark.parametrize("text", VALID)
async def test_valid_text_is_delivered_however_it_is_cut(text: bytes) -> None:
    await assert_exchange(frame(TEXT, text), Exchange([text]))
    parts = [frame(CONT, text[at : at + 1], fin=False) for at in range(1, len(text))]
    sent = frame(TEXT, text[:1], fin=False) + b"".join(parts) + frame(CONT)
    await assert_exchange(sent, Exchange([text]))


@pytest.mark.parametrize("text", INVALID)
async def test_invalid_text_fails(text: bytes) -> None:
    await assert_exchange(HELLO + frame(TEXT, text) + HELLO, Exchange([b"Hello"], close_code=1007))
    sent = frame(TEXT, text[:1], fin=False) + frame(CONT, text[1:])
    await assert_exchange(sent + HELLO, Exchange(close_code=1007))


@pytest.mark.parametrize("size", [1, 2, 3, 5])
async def test_large_text_is_checked_in_pieces(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr("asynccam.net.websocket._LARGE_TEXT", size)
    for text in VALID:
        assert await exchange([frame(TEXT, text) + HELLO]) == Exchange([text, b"Hello"])
    for text in INVALID:
        assert await exchange([frame(TEXT, text) + HELLO]) == Exchange(close_code=1007)


async def test_large_text_is_checked_over_several_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_LARGE_TEXT", 1000), ("_MESSAGES_PER_CHECK", 1), ("_MAX_TURN", 0.0)):
        monkeypatch.setattr(f"asynccam.net.websocket.{name}", value)
    text = "\u00e4".encode() * 30_000  # received in one piece
    messages: list[bytes] = []
    turns = 0
    async with connected(messages) as (_, peer):
        await peer.send([frame(TEXT, text)])
        while not messages:
            await asyncio.sleep(0)
            turns += 1
    assert messages == [text]
    assert turns > 40


@pytest.mark.parametrize("data", INVALID)
async def test_binary_message_may_hold_anything(data: bytes) -> None:
    sent = frame(BINARY, data) + frame(BINARY, data[:1], fin=False) + frame(CONT, data[1:])
    await assert_exchange(sent, Exchange([data, data]))


async def test_invalid_text_is_the_reason_of_the_end() -> None:
    async with connected([]) as (socket, peer):
        await peer.send([frame(TEXT, b"\xff")])
        assert (await socket.closed).reason == "a text message is not UTF-8"
        assert not socket.is_open


# -- 7: closing ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(CLOSE), 1005),
        (close(1000), 1000),
        (close(1000, b"Hello World!"), 1000),
        (close(1000, b"*" * 123), 1000),
        (close(1000, GREETING), 1000),
        *((close(code), code) for code in (1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4999)),
    ],
)
async def test_close_is_answered_and_ends_reading(sent: bytes, code: int) -> None:
    await assert_exchange(HELLO + sent + HELLO + frame(PING), Exchange([b"Hello"], close_code=code))


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(CLOSE, b"\x03"), 1002),
        (frame(CLOSE, struct.pack("!H", 1000) + b"*" * 124), 1002),
        (close(1000, b"\xce\xba\xed\xa0\x80"), 1007),
        *((close(code), 1002) for code in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535)),
    ],
)
async def test_invalid_close_fails(sent: bytes, code: int) -> None:
    await assert_exchange(HELLO + sent, Exchange([b"Hello"], close_code=code))


async def test_close_between_fragments_fails() -> None:
    sent = frame(TEXT, b"fragment1", fin=False) + close(1000) + frame(CONT, b"fragment2")
    await assert_exchange(sent, Exchange(close_code=1002))


async def test_close_of_ours_is_answered() -> None:
    messages: list[bytes] = []
    async with connected(messages) as (socket, peer):
        closing = asyncio.create_task(socket.aclose(1001, "bye"))
        assert await peer.read() == (FIN | CLOSE, struct.pack("!H", 1001) + b"bye")
        await peer.send([HELLO + close(1001)])
        await closing
        assert (await socket.closed).code == 1001
        assert await peer.read() is None
    assert not messages


@pytest.mark.parametrize("is_full", [True, False])
async def test_close_is_answered_while_reading_is_paused(
    is_full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the frames that wait and the peer's close frame, nothing is skipped."""
    monkeypatch.setattr("asynccam.net.websocket._MAX_TURN", 0.0)
    full: asyncio.Future[None] | None = None
    messages: list[bytes] = []
    async with connected(messages, room=lambda: full) as (socket, peer):
        if is_full:
            full = asyncio.get_running_loop().create_future()
        text = frame(TEXT, b"*" * 1000)
        await peer.send([text * 200 + text[:500]])
        async with asyncio.timeout(10):
            await eventually(lambda: socket._reading_paused)
            closing = asyncio.create_task(socket.aclose(timeout=10))
            assert await peer.read() == (FIN | CLOSE, struct.pack("!H", 1000))
            before = len(messages)
            await peer.send([text[500:] + close(1000, b"bye")])
            peer.hang_up()
            await closing
    info = await socket.closed
    assert (info.code, info.reason) == (1000, "bye")
    assert len(messages) == before < 200


async def test_nothing_is_sent_after_a_reset() -> None:
    async with connected([]) as (socket, peer):
        peer.hang_up(reset=True)
        assert (await socket.closed).code == 1006
        assert not socket.is_open
        with pytest.raises(ConnectionError):
            socket.send(b"lost")
        socket.probe(0.1)
        assert socket._timer is None


async def test_opening_ends_in_time_without_room_after_the_peer_has_gone() -> None:
    """With TLS the end of the connection is reported while reading is paused."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    served, trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(served)
    authority.configure_trust(trusted)
    full = asyncio.get_running_loop().create_future()
    options = WebSocketOptions(tls=trusted, timeout=1.0)
    async with RawPeer(tls=served) as peer, asyncio.timeout(10):
        opening = asyncio.create_task(
            open_websocket(peer.url, lambda message: None, options, room=lambda: full)
        )
        await peer.respond()
        await asyncio.sleep(0.1)
        peer.hang_up(reset=True)
        try:
            with pytest.raises(TimeoutError):
                await opening
        finally:
            full.set_result(None)


async def test_protocol_error_is_the_reason_of_the_end() -> None:
    async with connected([]) as (socket, peer):
        await peer.send([frame(7)])
        assert (await peer.read() or (0, b""))[0] == FIN | CLOSE
        reason = (await socket.closed).reason
    assert reason.startswith("the peer broke the WebSocket protocol: ")
    assert "opcode" in reason


# -- limits, and all of it together ---------------------------------------------------------------


@pytest.mark.parametrize("limit", [10, 1000, 70_000])
async def test_message_over_the_limit_fails(limit: int) -> None:
    fits, exceeds = b"*" * limit, b"*" * (limit + 1)
    expected = Exchange([fits], close_code=1009)
    await assert_exchange(frame(TEXT, fits) + frame(TEXT, exceeds), expected, max_message=limit)
    fragments = frame(TEXT, fits, fin=False) + frame(CONT, b"*")
    await assert_exchange(frame(TEXT, fits) + fragments, expected, max_message=limit)


async def test_short_fragments_take_the_memory_of_their_bytes() -> None:
    fragments = frame(TEXT, fin=False) + frame(CONT, b"ab", fin=False) * 10_000
    async with connected([]) as (_, peer):
        await peer.send([HELLO, frame(PING, MARK)])
        await peer.read()
        tracemalloc.start()
        try:
            await peer.send([fragments, frame(PING, MARK)])
            await peer.read()
            used, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert used < 100_000


async def test_frames_in_the_segment_of_the_handshake_are_read() -> None:
    messages: list[bytes] = []
    async with RawPeer() as peer:
        opening = asyncio.create_task(open_websocket(peer.url, lambda message: messages.append(message)))
        await peer.respond(following=HELLO + frame(PING, b"a") + HELLO[:3])
        socket = await opening
        await peer.send([HELLO[3:] + frame(PING, MARK)])
        assert [await peer.read() for _ in range(2)] == [(FIN | PONG, b"a"), (FIN | PONG, MARK)]
        await socket.abort()
    assert messages == [b"Hello", b"Hello"]


MIXED = (
    HELLO
    + frame(PING, b"1")
    + frame(TEXT, b"x" * 200)
    + frame(TEXT, b"begin-", fin=False)
    + frame(PING, b"2")
    + frame(CONT, b"end")
    + frame(BINARY, b"\xff")
    + frame(TEXT)
    + HELLO
)
MIXED_RESULT = Exchange([b"Hello", b"x" * 200, b"begin-end", b"\xff", b"", b"Hello"], [b"1", b"2"])


async def test_mixed_frames_cut_at_every_place() -> None:
    for at in range(1, len(MIXED)):
        assert await exchange([MIXED[:at], MIXED[at:]]) == MIXED_RESULT, at


async def test_frames_are_the_same_while_they_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "asynccam.net.websocket.frames"):
        await assert_exchange(MIXED, MIXED_RESULT)
        async with connected([]) as (socket, peer):
            socket.send(b"Hello")
            assert await peer.read() == (FIN | TEXT, b"Hello")
    assert "< TEXT [5 bytes]" in caplog.messages
    assert "> TEXT [5 bytes]" in caplog.messages


FRAMES = st.builds(
    frame,
    st.sampled_from([TEXT, TEXT, TEXT, CONT, BINARY, PING, PONG, CLOSE, 3, 11]),
    st.one_of(st.binary(max_size=10), st.text(max_size=10).map(str.encode), st.just(b"*" * 130)),
    fin=st.sampled_from([True, True, True, False]),
    rsv=st.sampled_from([0, 0, 0, 0, 0, 1]),
)


def messages_by_websockets(data: bytes) -> tuple[list[bytes], bool]:
    """Return the messages that the library's own core reads, and whether it fails or ends at them."""
    core = Protocol(Side.CLIENT)
    core.receive_data(data)
    messages: list[bytes] = []
    parts, is_text = b"", False
    for event in core.events_received():
        assert isinstance(event, Frame)
        if event.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            continue
        if event.opcode is not Opcode.CONT:
            parts, is_text = b"", event.opcode is Opcode.TEXT
        parts += bytes(event.data)
        if event.fin:
            try:
                parts.decode() if is_text else None
            except UnicodeDecodeError:  # what the core leaves to those who read text
                return messages, True
            messages.append(parts)
    return messages, core.state is not State.OPEN


@settings(max_examples=150)
@given(st.lists(FRAMES, max_size=8), st.lists(st.integers(1, 40), max_size=6))
def test_any_frames_in_any_pieces_give_the_librarys_messages(frames: list[bytes], lengths: list[int]) -> None:
    data = b"".join(frames)
    pieces, at = [], 0
    for length in lengths:
        pieces.append(data[at : at + length])
        at += length
    seen = asyncio.run(exchange([*pieces, data[at:]]))
    assert (seen.messages, seen.close_code is not None) == messages_by_websockets(data)
