"""The pickle of names: what lists it reads, and that nothing in it ever runs."""

import os
import pickle
import pickletools
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.errors import RemoteProtocolError
from asynccam.systems.nanocam.safe_pickle import (
    MAX_ITEMS,
    MAX_PICKLE,
    MAX_STEPS,
    PickleReader,
    write_names,
)
from tests.support.cuts import every_cut

NAMES = ["/home/media/2020-07-29 14:54:15.jpg", "bä\nd\\x.jpg", "", "/home/media/2020-07-29 14:54:15.jpg"]
INTEGERS = [0, 1, 255, 256, 65535, 65536, -1, -(2**31), 2**31, 2**63 - 1, -(2**63)]


def fed(reader: PickleReader, pieces: list[bytes]) -> None:
    for piece in pieces:
        reader.feed(piece)


def read(data: bytes) -> list[str | int]:
    reader = PickleReader()
    assert reader.feed(data) == b""
    assert reader.items is not None
    return reader.items


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_lists_of_every_protocol_cut_anywhere(protocol: int) -> None:
    items = [*NAMES, *INTEGERS]
    data = pickle.dumps(items, protocol)
    for pieces in every_cut(data + b"DONE"):
        reader, rest = PickleReader(), b""
        for piece in pieces:
            rest += reader.feed(piece) if reader.items is None else piece
        assert reader.items == items
        assert rest == b"DONE"


def test_strings_of_python_2() -> None:
    assert read(b"\x80\x02]q\x00(U\x05a.jpgT\x05\0\0\0b.jpge.") == ["a.jpg", "b.jpg"]
    assert read(b"(lp0\nS'it\\'s\\x20\\\\a.jpg'\np1\naS\"b.jpg\"\na.") == ["it's \\a.jpg", "b.jpg"]
    assert read(b"(lp0\nVb\\u00e4.jpg\np1\nag1\na.") == ["bä.jpg", "bä.jpg"]


def test_written_names_can_be_unpickled() -> None:
    assert pickle.loads(write_names(NAMES)) == NAMES
    assert read(write_names(NAMES)) == NAMES
    assert read(write_names([])) == []


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.integers(-(2**63), 2**63 - 1)),
    st.integers(0, pickle.HIGHEST_PROTOCOL),
)
def test_any_list(items: list[str | int], protocol: int) -> None:
    assert read(pickle.dumps(items, protocol)) == items


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, (f"mkdir {self.path}",)


def hostile(sentinel: Path) -> list[bytes]:
    path = str(sentinel).encode()
    text = b"X" + struct.pack("<I", len(path)) + path
    found = [pickle.dumps([Hostile(sentinel)], protocol) for protocol in range(6)]
    found += [pickle.dumps(["a.jpg", {"b": Hostile(sentinel)}], protocol) for protocol in range(6)]
    found += [
        b"cos\nmkdir\n(" + text + b"tR.",
        b"\x80\x02](cos\nmkdir\n" + text + b"\x85Re.",
        b"\x80\x04](\x8c\x02os\x8c\x05mkdir\x93" + text + b"\x85Re.",
        b"(" + text + b"ios\nmkdir\n.",
        b"(cos\nmkdir\n" + text + b"o.",
        b"\x80\x02](cos\nmkdir\n)\x81" + text + b"\x85be.",
        b"\x80\x02](\x82\x01e.",
        b"\x80\x02](P1\ne.",
        b"\x80\x02]((" + text + b"tQe.",
    ]
    return found


def test_hostile_pickles_run_nothing(tmp_path: Path) -> None:
    sentinel = tmp_path / "sentinel"
    pickle.loads(hostile(sentinel)[0])
    assert sentinel.is_dir(), "the trap works"
    sentinel.rmdir()
    for data in hostile(sentinel):
        for pieces in ([data], [data[place : place + 1] for place in range(len(data))]):
            reader = PickleReader(peer="evil")
            with pytest.raises(RemoteProtocolError, match="evil sent a pickle that is not read: it holds "):
                fed(reader, pieces)
            assert not sentinel.exists()


ALLOWED = {
    *("PROTO", "FRAME", "MARK", "EMPTY_LIST", "LIST", "APPEND", "APPENDS", "STOP"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1"),
    *("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"),
}


@pytest.mark.parametrize("opcode", pickletools.opcodes, ids=lambda one: one.name)
def test_every_other_opcode_is_refused_by_name(opcode: pickletools.OpcodeInfo) -> None:
    reader = PickleReader()
    if opcode.name in ALLOWED:
        return
    with pytest.raises(RemoteProtocolError, match=f"it holds {opcode.name}$"):
        reader.feed(b"\x80\x02](" + opcode.code.encode("latin-1"))


def test_unknown_opcode_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="unknown opcode"):
        PickleReader().feed(b"\x80\x02]\xff")


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x06].",  # a protocol of the future
        b"\x80\x02K\x01.",  # no list
        b"\x80\x02X\x01\0\0\0a.",
        b"\x80\x02]](]ee.",  # a list in a list
        b"\x80\x02]q\x00h\x00a.",  # a list in itself
        b"\x80\x02(]l.",
        b"\x80\x02K\x01K\x02a.",
        b"\x80\x02]].",  # two things at the end
        b"\x80\x02.",  # nothing
        b"\x80\x02a.",
        b"\x80\x02]e.",
        b"\x80\x02]a.",
        b"\x80\x02q\x00.",
        b"\x80\x02](q\x00e.",  # a mark is nothing to keep
        b"\x80\x02]h\x07.",  # never kept
        b"\x80\x02]g7\n.",
        b"\x80\x02]gx\n.",
        b"\x80\x02]p-\n.",
        b"\x80\x02]I01\na.",  # a truth value
        b"\x80\x02]I1x\na.",
        b"\x80\x02]I" + b"9" * 20 + b"\na.",
        b"\x80\x02]\x8a\x09" + b"\xff" * 9 + b"a.",
        b"\x80\x02]S'a\na.",
        b"\x80\x02]Sa'\na.",
        b"\x80\x02]S'a\"\na.",
        b"\x80\x02]S'\\q'\na.",
        b"\x80\x02]U\x01\xffa.",
        b"\x80\x02]X\x01\0\0\0\xffa.",
        b"\x80\x02]V\\ud800\na.",
    ],
)
def test_invalid_pickles_are_refused(data: bytes) -> None:
    for pieces in ([data], [data[place : place + 1] for place in range(len(data))]):
        reader = PickleReader()
        with pytest.raises(RemoteProtocolError):
            fed(reader, pieces)


def test_incomplete_pickle_is_not_a_list() -> None:
    data = pickle.dumps(NAMES, 2)
    for place in range(len(data)):
        reader = PickleReader()
        assert reader.feed(data[:place]) == b""
        assert reader.items is None


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02]X\xff\xff\xff\xff",
        b"\x80\x02]T\0\0\x20\0",
        b"\x80\x04]\x8d\xff\xff\xff\xff\xff\xff\xff\x7f",
    ],
)
def test_length_beyond_the_limit_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match=f"longer than {MAX_PICKLE} bytes"):
        PickleReader().feed(data)


def test_line_without_end_is_refused() -> None:
    reader = PickleReader()
    reader.feed(b"(lV")
    with pytest.raises(RemoteProtocolError, match=f"longer than {MAX_PICKLE} bytes"):
        fed(reader, [b"a" * 4096] * (MAX_PICKLE // 4096 + 1))


def test_many_items_and_many_steps_are_refused() -> None:
    assert len(read(pickle.dumps(["a"] * MAX_ITEMS, 2))) == MAX_ITEMS
    with pytest.raises(RemoteProtocolError, match="items"):
        read(pickle.dumps(["a"] * (MAX_ITEMS + 1), 2))
    with pytest.raises(RemoteProtocolError, match="items"):
        read(b"\x80\x02(" + b"K\x01" * (MAX_ITEMS + 1) + b"l.")
    with pytest.raises(RemoteProtocolError, match="instructions"):
        read(b"\x80\x02]" + b"q\x00" * MAX_STEPS + b".")
    with pytest.raises(RemoteProtocolError, match="bytes"):
        read(b"\x80\x02]" + (b"\x8c\xff" + b"a" * 255 + b"a") * (MAX_PICKLE // 258 + 1) + b".")


@given(st.binary(max_size=200))
def test_noise_is_a_list_or_refused(data: bytes) -> None:
    reader = PickleReader()
    try:
        reader.feed(b"\x80\x02](" + data)
    except RemoteProtocolError:
        return
    assert reader.items is None or all(isinstance(item, str | int) for item in reader.items)


@given(st.data())
def test_changed_byte_is_a_list_or_refused(data: st.DataObject) -> None:
    good = bytearray(pickle.dumps([*NAMES, *INTEGERS], data.draw(st.integers(0, 5))))
    good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    reader = PickleReader()
    try:
        reader.feed(bytes(good))
    except RemoteProtocolError:
        return
    assert reader.items is None or all(isinstance(item, str | int) for item in reader.items)
