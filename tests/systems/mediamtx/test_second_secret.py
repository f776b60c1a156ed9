"""A token that expires in mid-take, and an API key beside it."""

import asyncio
from pathlib import Path

import pytest

from asynccam import Session
from asynccam.errors import AuthenticationError
from asynccam.model.address import Address
from asynccam.model.credentials import Credentials
from asynccam.model.manifest import FileState, Outcome
from asynccam.systems.mediamtx import CameraClient, MediaMTXSimulator
from asynccam.systems.mediamtx.settings import credentials
from asynccam.take import Take
from tests.support.mediamtx_service import simulator

FIRST_SECRET = "token"
SECOND_SECRET = "key"


def place(service: MediaMTXSimulator, generation: int) -> Address:
    return Address("mediamtx", "127.0.0.1", service.port, "/dev/video0" if generation == 1 else "camera0")


@pytest.mark.parametrize("generation", [1, 2])
async def test_take_with_expired_token_stops_with_key(generation: int, tmp_path: Path) -> None:
    async with simulator(generation, directory=tmp_path) as service, Session() as session:
        both = Credentials(token=service.token(), api_key="operator-key")
        camera = await session.connect(
            place(service, generation), credentials=both, http_port=service.http_port
        )
        take = Take([camera], tmp_path / "takes")
        await take.arm()
        await take.start(start_in=0.0)
        service.expire_tokens()
        await take.stop()
        await take.collect()
    (record,) = take.manifest.cameras
    assert not record.errors
    assert record.stopped_at is not None
    assert [file.state for file in record.files] == [FileState.ARRIVED]
    assert take.manifest.outcome is not Outcome.FAILED


@pytest.mark.parametrize("generation", [1, 2])
async def test_files_are_fetched_with_the_key_once_the_token_is_refused(
    generation: int, tmp_path: Path
) -> None:
    async with (
        simulator(generation, directory=tmp_path) as service,
        CameraClient(
            "127.0.0.1",
            service.port,
            auth_token=service.token(),
            api_key="operator-key",
            http_port=service.http_port,
        ) as client,
    ):
        camera = place(service, generation).camera
        await client.start_recording(camera)
        made = await client.stop_recording(camera)
        service.expire_tokens()
        side_by_side = [client.download_recording(made.filename, tmp_path / "files") for _ in range(4)]
        assert all(file.size > 0 for file in await asyncio.gather(*side_by_side))


@pytest.mark.parametrize("generation", [1, 2])
async def test_error_names_both_refused_secrets(generation: int, tmp_path: Path) -> None:
    async with simulator(generation, directory=tmp_path) as service:
        client = CameraClient(
            "127.0.0.1", service.port, auth_token=service.token(lifetime=-5.0), api_key="no-such-key"
        )
        with pytest.raises(AuthenticationError, match=r"expired .*second secret is refused as well") as told:
            await client.connect()
        assert "no-such-key" not in str(told.value)


def test_given_secret_is_not_combined_with_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIAMTX_API_KEY", SECOND_SECRET)
    assert credentials(None, FIRST_SECRET, None).second is None
    monkeypatch.setenv("MEDIAMTX_AUTH_TOKEN", FIRST_SECRET)
    from_environment = credentials(None, None, None)
    assert (from_environment.token, from_environment.second) == (FIRST_SECRET, ("api_key", SECOND_SECRET))
    by_key = credentials("api_key", FIRST_SECRET, SECOND_SECRET)
    assert (by_key.token, by_key.second) == (SECOND_SECRET, ("jwt", FIRST_SECRET))
