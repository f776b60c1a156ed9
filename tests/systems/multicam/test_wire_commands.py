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
        reader.eof()
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
def test_commands_are_read_wherever_the_bytes_are_cut(
    stream: bytes, expected: list[tuple[str, bool]]
) -> None:
    for pieces in every_cut(stream):
        commands, end = read(pieces)
        assert [(command.message.command, command.prefixed) for command in commands] == expected
        assert end == "end"


def test_all_fields_of_a_command_arrive() -> None:
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
def test_what_is_no_command_is_a_fault_wherever_it_is_cut(stream: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        CommandReader().feed(stream)
    for pieces in every_cut(stream):
        assert read(pieces) == ([], "fault")


@pytest.mark.parametrize("stream", [b'{"command": "X"', b"\x00\x00\x00\x66" + START, b"\x00"])
def test_a_command_that_ends_early_is_a_fault(stream: bytes) -> None:
    assert CommandReader().feed(stream) == []
    for pieces in every_cut(stream):
        assert read(pieces) == ([], "fault")


def test_a_good_command_before_garbage_is_still_given() -> None:
    for pieces in every_cut(START + b"garbage"):
        commands, end = read(pieces)
        assert [command.message.command for command in commands] == [CommandType.START_RECORDING]
        assert end == "fault"


def test_how_to_answer_a_bad_command_is_known() -> None:
    for stream, prefixed in ((b"\x00\x00\x00\x02{}", True), (b"{}", False)):
        reader = CommandReader()
        with pytest.raises(RemoteProtocolError):
            reader.feed(stream)
        assert reader.prefixed is prefixed


def test_a_length_of_four_gigabytes_is_refused_by_its_first_byte() -> None:
    with pytest.raises(RemoteProtocolError):
        CommandReader().feed(b"\xff")


def test_an_endless_command_holds_no_more_than_its_limit() -> None:
    reader = CommandReader(max_size=1000)
    assert reader.feed(b'{"command": "' + b"x" * 987) == []
    with pytest.raises(RemoteProtocolError):
        reader.feed(b"x")


pieces_of_streams = st.sampled_from(
    [START, PREFIXED_START, VIDEO, b"\0", b" ", PREFIXED_START[:4], b"{", b"}"]
)


@given(st.binary(max_size=60) | st.lists(pieces_of_streams | st.binary(max_size=2), max_size=6).map(b"".join))
def test_any_bytes_give_the_same_however_they_are_cut(stream: bytes) -> None:
    whole, whole_end = read([stream])
    single, single_end = read([stream[place : place + 1] for place in range(len(stream))])
    assert [command.prefixed for command in single] == [command.prefixed for command in whole]
    assert [command.message.command for command in single] == [command.message.command for command in whole]
    assert single_end == whole_end
