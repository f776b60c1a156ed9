import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.errors import RemoteProtocolError
from asynccam.systems.multicam import CommandMessage, CommandType
from asynccam.systems.multicam.protocol import CommandReader, ReceivedCommand
from tests.support.cuts import every_cut

START = b'{"command": "START_RECORDING", "timestamp": 1729000000.123, '
START += b'"deviceId": "controller", "fileId": null}'
VIDEO = '{"command":"GET_VIDEO","timestamp":1,"deviceId":"Büro","fileId":null,"fileName":"}.mp4"}'.encode()
PREFIXED_START = b"\x00\x00\x00\x65" + START


def read(pieces: list[bytes]) -> tuple[list[ReceivedCommand], str]:
    reader = CommandReader(peer="10.0.0.9")
    commands: list[ReceivedCommand] = []
    try:
        for piece in pieces:
            commands += reader.feed(piece)
        reader.feed(b"")  # raises the error that followed the commands
    except RemoteProtocolError as error:
        return commands, "fault" if "10.0.0.9" in str(error) else "fault of nobody"
    return commands, "end"


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (START, [(CommandType.START_RECORDING, False)]),
        (b" \r\n\t" + START + b"\r\n\0", [(CommandType.START_RECORDING, False)]),
        (START + VIDEO, [(CommandType.START_RECORDING, False), (CommandType.GET_VIDEO, False)]),
        (START + b"\0\n" + VIDEO, [(CommandType.START_RECORDING, False), (CommandType.GET_VIDEO, False)]),
        (PREFIXED_START, [(CommandType.START_RECORDING, True)]),
        (PREFIXED_START + VIDEO, [(CommandType.START_RECORDING, True), (CommandType.GET_VIDEO, False)]),
        (VIDEO + PREFIXED_START, [(CommandType.GET_VIDEO, False), (CommandType.START_RECORDING, True)]),
        (b'{"command":"ZOOM","timestamp":1}', [("ZOOM", False)]),
    ],
)
def test_command_reader_any_cuts(stream: bytes, expected: list[tuple[str, bool]]) -> None:
    for pieces in every_cut(stream):
        commands, end = read(pieces)
        assert [(command.message.command, command.prefixed) for command in commands] == expected
        assert end == "end"


def test_command_reader_all_fields() -> None:
    ((start,), _) = read([START])
    assert start.message == CommandMessage(
        command=CommandType.START_RECORDING, timestamp=1729000000.123, deviceId="controller"
    )
    ((video,), _) = read([VIDEO])
    assert (video.message.deviceId, video.message.fileName, video.message.fileId) == ("Büro", "}.mp4", None)


@pytest.mark.parametrize(
    "stream",
    [
        b"{}",
        b"\x00\x00\x00\x02{}",
        b"\x00\x00\x00\x02[]",
        b'{"command": 7}',
        b'{"command": null}',
        b'{"command": "GET_VIDEO", "fileName": ["x"]}',
        b'{"command": "START_RECORDING", "timestamp": NaN}',
        b'{"command": "START_RECORDING", "timestamp": "now"}',
        b'{"command": "X", "deviceId": "\xff"}',
        b"{'command': 'X'}",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xff\xff\xff",
        b"\x00\x01\x00\x01" + START,
        b"\x00\x00\x00\x00",
        b'{"command": ' + b"[" * 300,
    ],
)
def test_command_reader_invalid_command_any_cuts(stream: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        CommandReader().feed(stream)
    for pieces in every_cut(stream):
        assert read(pieces) == ([], "fault")


@pytest.mark.parametrize("stream", [b'{"command": "X"', b"\x00\x00\x00\x66" + START, b"\x00"])
def test_command_reader_incomplete_command(stream: bytes) -> None:
    for pieces in every_cut(stream):
        assert read(pieces) == ([], "end")


def test_command_reader_returns_command_before_garbage() -> None:
    for pieces in every_cut(START + b"garbage"):
        commands, end = read(pieces)
        assert [command.message.command for command in commands] == [CommandType.START_RECORDING]
        assert end == "fault"


def test_command_reader_prefixed_after_invalid_command() -> None:
    for stream, prefixed in ((b"\x00\x00\x00\x02{}", True), (b"{}", False)):
        reader = CommandReader()
        with pytest.raises(RemoteProtocolError):
            reader.feed(stream)
        assert reader.prefixed is prefixed


def test_command_reader_refuses_large_length_by_first_byte() -> None:
    with pytest.raises(RemoteProtocolError):
        CommandReader().feed(b"\xff")


def test_command_reader_size_limit() -> None:
    reader = CommandReader(max_size=1000)
    assert reader.feed(b'{"command": "' + b"x" * 987) == []
    with pytest.raises(RemoteProtocolError):
        reader.feed(b"x")


pieces_of_streams = st.sampled_from(
    [START, PREFIXED_START, VIDEO, b"\0", b" ", PREFIXED_START[:4], b"{", b"}"]
)


@given(st.binary(max_size=60) | st.lists(pieces_of_streams | st.binary(max_size=2), max_size=6).map(b"".join))
def test_command_reader_any_bytes_any_cuts(stream: bytes) -> None:
    whole, whole_end = read([stream])
    single, single_end = read([stream[place : place + 1] for place in range(len(stream))])
    assert [command.prefixed for command in single] == [command.prefixed for command in whole]
    assert [command.message.command for command in single] == [command.message.command for command in whole]
    assert single_end == whole_end
