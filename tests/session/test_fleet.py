"""fleet.toml: what may stand in it, where a mistake is, and that secrets stay secret."""

import asyncio
from pathlib import Path

import pytest

from asynccam.errors import AsynccamError, AuthenticationError, StorageError, UsageError
from asynccam.model.credentials import Credentials
from asynccam.session import Fleet, FleetError, Session
from tests.support.mediamtx_service import simulator, token
from tests.support.multicam_device import running

FULL = """\
# the lab
[session]
ntp_server = "time.example:1123"
interfaces = ["127.0.0.1"]
fail_fast = true
shutdown_timeout = 30
poll_interval = 2.5
mdns = false

[[camera]]
address = "multicam://192.168.1.20:8080"
label = "hill"
groups = ["yard", "north"]

[[camera]]
address = "mediamtx://service"
token_file = "secrets/lab"
api_key_env = "LAB_KEY"
"""


def test_fleet_with_every_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_KEY", "key-4711")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/lab").write_text("token-4711\n")
    fleet = Fleet.parse(FULL, directory=tmp_path)
    hill, service = fleet.places
    assert str(hill.address) == "multicam://192.168.1.20:8080"
    assert hill.label == "hill"
    assert hill.groups == frozenset({"yard", "north"})
    assert hill.credentials == Credentials()
    assert str(service.address) == "mediamtx://service:8002"
    assert service.is_service
    assert service.credentials.api_key == "key-4711"
    assert fleet.settings() == {
        "ntp_server": "time.example:1123",
        "interfaces": ["127.0.0.1"],
        "fail_fast": True,
        "shutdown_timeout": 30.0,
        "poll_interval": 2.5,
    }
    assert not fleet.mdns
    assert "4711" not in repr(fleet)
    assert "4711" not in str(fleet.places)


def test_empty_file_is_an_empty_fleet() -> None:
    fleet = Fleet.parse("")
    assert fleet == Fleet()
    assert fleet.poll_interval == 10.0


def test_poll_interval_false_means_no_polls() -> None:
    assert Fleet.parse("[session]\npoll_interval = false").poll_interval is None


def test_key_of_older_files_is_accepted() -> None:
    assert Fleet.parse("[session]\ncheck_every = 3").poll_interval == 3
    with pytest.raises(FleetError, match=r"session\.check_every"):
        Fleet.parse("[session]\ncheck_every = 3\npoll_interval = 3")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[session\n", "fleet.toml:1: Expected ']' at the end of a table declaration"),
        ("a = 1\nb = [\n", "fleet.toml:2: Invalid value"),
        ("[session]\n\nfail_fast = 1\n", "fleet.toml:3: session.fail_fast: input should be a valid boolean"),
        (
            "[session]\nshutdown_timeout = 0",
            "fleet.toml:2: session.shutdown_timeout: input should",
        ),
        ("[session]\nshutdown_timeout = nan", "fleet.toml:2: session.shutdown_timeout: input should be"),
        ("[session]\npoll_interval = true", "fleet.toml:2: session.poll_interval: input should be"),
        (
            "[session]\n# x\nntp_server = 'a/b'",
            "fleet.toml:3: session.ntp_server: 'a/b' is not a time server",
        ),
        ("[session]\ninterfaces = [\n'a',\n 1]", "fleet.toml:2: session.interfaces[1]: input should be a"),
        ("\n[sessions]\nx = 1\n", "fleet.toml:2: sessions: there is no such key"),
        ("[[camera]]\n", "fleet.toml:1: camera[0].address: this key is missing"),
        (
            "[[camera]]\naddress = 'multicam://a'\n\n[[camera]] # two\nlabel = 'x'\n",
            "fleet.toml:4: camera[1].address: this key is missing",
        ),
        (
            "[[camera]]\naddress = 'multicam://a'\n[[camera]]\nlabel = '''\nx\n'''\naddress='other://a'",
            "fleet.toml:7: camera[1].address: unknown system 'other'",
        ),
        (
            "camera = [\n  {address = 'multicam://a'},\n  {}\n]",
            "fleet.toml:1: camera[1].address: this key",
        ),
        ("camera = 1", "fleet.toml:1: camera: input should be a valid list"),
        ("[[camera]]\naddress = 'nanocam://a'\nlabels = 1", "camera[0].labels: there is no such key"),
        (
            "[[camera]]\naddress='multicam://a'\n[[camera]]\naddress='multicam://a:8080'",
            "fleet.toml:3: camera[1]: multicam://a:8080 is given twice",
        ),
        (
            "[[camera]]\naddress='mediamtx://a'\nlabel='x'",
            "fleet.toml:1: camera[0]: a label names one camera",
        ),
        (
            "[[camera]]\naddress='multicam://a'\ngroups=['']",
            "fleet.toml:3: camera[0].groups[0]: string should",
        ),
    ],
)
def test_problem_has_its_line_and_key(text: str, told: str) -> None:
    with pytest.raises(FleetError) as caught:
        Fleet.parse(text)
    assert told in str(caught.value)
    assert isinstance(caught.value, UsageError)


def test_all_problems_are_listed_in_order() -> None:
    text = "[[camera]]\nlabel = ''\n\n[session]\nfail_fast = 1\nnpt = 2\n"
    with pytest.raises(FleetError) as caught:
        Fleet.parse(text, name="my.toml")
    assert [(line, path) for line, path, _ in caught.value.problems] == [
        (1, "camera[0].address"),
        (2, "camera[0].label"),
        (5, "session.fail_fast"),
        (6, "session.npt"),
    ]
    assert str(caught.value).count("my.toml:") == 4


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("token = 'S3CRET'", "write token_env or token_file"),
        ("api_key = 'S3CRET'", "write api_key_env or api_key_file"),
        ("token_env = ['S3CRET']", "input should be a valid string"),
        ("token_file = 'S3CRET'\ntoken_env = 'LAB'", "there is token_env as well; one is enough"),
        ("address = 'mediamtx://me:S3CRET@host'", "an address carries no credentials"),
        ("extra = 'S3CRET'", "there is no such key"),
    ],
)
def test_error_does_not_repeat_a_secret(line: str, told: str) -> None:
    text = f"[[camera]]\n{line}\n" + ("" if "address" in line else "address = 'mediamtx://host'\n")
    with pytest.raises(FleetError) as caught:
        Fleet.parse(text)
    assert told in str(caught.value)
    assert "S3CRET" not in str(caught.value)
    assert "S3CRET" not in repr(caught.value.problems)


def test_missing_secrets_are_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    text = "".join(
        f"[[camera]]\naddress = 'mediamtx://host:{port}'\n{line}\n"
        for port, line in enumerate(
            ("token_env='NOT_SET'", "token_file='none'", "api_key_file='empty'", "api_key_file='binary'"), 1
        )
    )
    with pytest.raises(FleetError) as caught:
        Fleet.parse(text, directory=tmp_path)
    assert [(line, path) for line, path, _ in caught.value.problems] == [
        (3, "camera[0].token_env"),
        (6, "camera[1].token_file"),
        (9, "camera[2].api_key_file"),
        (12, "camera[3].api_key_file"),
    ]
    assert "the environment variable NOT_SET is not set" in str(caught.value)


@pytest.mark.parametrize("content", ["S3CRET\nanother\n", "\ufeffS3CRET", "S3CRET\tx", "S3CRET\x7f"])
def test_secret_file_with_more_than_one_line_of_text_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(content, encoding="utf-8")
    text = "[[camera]]\naddress = 'mediamtx://host'\ntoken_file = 'token'\n"
    with pytest.raises(FleetError, match="token holds no secret: it must be one line of text") as caught:
        Fleet.parse(text, directory=tmp_path)
    assert "S3CRET" not in str(caught.value)


async def test_token_file_is_read_at_every_sign_in(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("first")
    text = "[[camera]]\naddress = 'mediamtx://host'\ntoken_file = 'token'\n"
    fleet = await asyncio.to_thread(lambda: Fleet.parse(text, directory=tmp_path))
    provider = fleet.places[0].credentials.token
    assert callable(provider)
    assert await provider() == "first"
    secret.write_text("second")
    assert await provider() == "second"
    secret.unlink()
    with pytest.raises(AuthenticationError, match="cannot read the secret"):
        await provider()


async def test_unreadable_file_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot read the fleet"):
        await Fleet.load(tmp_path / "fleet.toml")
    file = tmp_path / "fleet.toml"
    file.write_bytes(b"# fine\n\n# \xff\n")
    with pytest.raises(FleetError, match=r"fleet.toml:3: this is not UTF-8"):
        await Fleet.load(file)


async def test_windows_line_ends_and_byte_order_mark_are_accepted(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_bytes(b"\xef\xbb\xbf[session]\r\n\r\nfail_fast = 1\r\n")
    with pytest.raises(FleetError, match=r"fleet.toml:3: session.fail_fast"):
        await Fleet.load(str(file))


async def test_session_opens_from_a_file(tmp_path: Path) -> None:
    async with (
        running(tmp_path / "device", device_id="bench-3") as device,
        simulator(2, directory=tmp_path, cameras=2) as service,
    ):
        (tmp_path / "token").write_text(token())
        file = tmp_path / "fleet.toml"
        file.write_text(f"""
[session]
interfaces = ["127.0.0.1"]
poll_interval = false

[[camera]]
address = "multicam://127.0.0.1:{device.port}"
label = "bench"

[[camera]]
address = "mediamtx://127.0.0.1:{service.port}"
token_file = "token"
groups = ["room"]
""")
        async with Session.open(fleet=file, timeout=30, fail_fast=False) as session:
            assert session.camera("bench").id == "multicam://bench-3"
            assert len(session.group("room")) == 2
            assert not session.unavailable


async def test_invalid_file_opens_no_session(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text("[[camera]]")
    with pytest.raises(AsynccamError, match="this key is missing"):
        async with Session.open(fleet=file):
            pytest.fail("it was opened")


async def test_file_in_the_docs_is_valid(tmp_path: Path) -> None:
    docs = Path(__file__).parents[2] / "docs/fleet.md"
    text = (await asyncio.to_thread(docs.read_text)).split("```toml\n")[1].split("```")[0]
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/lab").write_text("token")
    (tmp_path / "fleet.toml").write_text(text)
    fleet = await Fleet.load(tmp_path / "fleet.toml")
    assert [str(place.address) for place in fleet.places] == [
        "multicam://192.168.1.20:8080",
        "mediamtx://service:8002",
    ]


def test_http_port_is_read() -> None:
    first, second = Fleet.parse(
        "[[camera]]\naddress = 'mediamtx://host'\nhttp_port = 9003\n\n[[camera]]\naddress = 'mediamtx://two'\n"
    ).places
    assert (first.http_port, second.http_port) == (9003, None)


@pytest.mark.parametrize(
    ("address", "port", "told"),
    [
        ("mediamtx://host", "0", "http_port must be 1 to 65535, not 0"),
        ("mediamtx://host", "65536", "http_port must be 1 to 65535, not 65536"),
        ("mediamtx://host", "'9003'", "input should be a valid integer"),
        ("multicam://host", "9003", "http_port is for mediamtx only"),
    ],
)
def test_invalid_http_port_is_a_problem(address: str, port: str, told: str) -> None:
    with pytest.raises(FleetError) as caught:
        Fleet.parse(f"[[camera]]\naddress = '{address}'\nhttp_port = {port}\n")
    ((line, path, what),) = caught.value.problems
    assert (line, path) == (3, "camera[0].http_port")
    assert told in what


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("# a comment\nntp_server = " + "9" * 5000 + "\n", "a number has too many digits"),
        ("# a comment\ninterfaces = " + "[" * 20_000 + "\n", "values are nested too deep"),
    ],
)
def test_parser_limits_are_problems_with_a_line(text: str, what: str) -> None:
    with pytest.raises(FleetError, match=rf"fleet.toml:2: {what}"):
        Fleet.parse(text)
