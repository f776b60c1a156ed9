"""``/api/v1/settings``: reading, checking and changing settings."""

import json
from pathlib import Path
from typing import Any

import pytest

from asynccam.systems.snapshot.server import ConfigFile, ImuSettings
from tests.systems.snapshot.web.rig import Rig, serving

SETTINGS = "/api/v1/settings"
BY_HAND = "is changed by hand, in the configuration file"


def written(rig: Rig) -> Any:
    """Return the content of the file."""
    return json.loads(rig.config.read_text())


async def change(rig: Rig, changes: Any, status: int = 200) -> Any:
    """Change settings, and what is answered."""
    return await rig.json(SETTINGS, "PATCH", json=changes, status=status)


async def test_settings_are_read_changed_and_in_force(tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"], imu=ImuSettings(enabled=False)) as rig:
        before = await rig.json(SETTINGS)
        assert before["retention"] == {"max_age_days": None, "max_size_mb": None}
        assert before["imu"]["topic"] == "status/"
        answer = await change(
            rig,
            {
                "retention": {"max_age_days": "30", "max_size_mb": 2.5},
                "imu": {"enabled": False, "broker": " broker.lan ", "port": "1884", "topic": "ship/+/imu"},
                "limits": {"captures": 2},
            },
        )
        assert answer == await rig.json(SETTINGS)
        assert answer["retention"] == {"max_age_days": 30, "max_size_mb": 2.5}
        assert written(rig)["retention"] == {"max_age_days": 30, "max_size_mb": 2.5}
        assert written(rig)["imu"] == {
            "enabled": False,
            "broker": "broker.lan",
            "port": 1884,
            "topic": "ship/+/imu",
        }
        assert written(rig)["limits"] == {"captures": 2}
        assert [one["name"] for one in written(rig)["cameras"]] == ["left"]
        assert rig.service.store.retention.max_age_days == 30
        assert rig.service.imu is not None
        assert rig.service.imu.settings.broker == "broker.lan"
        assert (await rig.json("/api/v1/state"))["settings"] == answer


async def test_settings_left_out_stay_and_null_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "cameras": [],
                "imu": {"enabled": False, "topic": "a", "port": 5, "ours": [1]},
                "retention": {"max_age_days": 3},
                "note": "kept",
            }
        )
    )
    async with serving(tmp_path) as rig:
        await change(rig, {"imu": {"topic": "", "max_age": 9}, "retention": {"max_age_days": None}})
        assert written(rig) == {
            "cameras": [],
            "imu": {"enabled": False, "port": 5, "ours": [1], "max_age": 9},
            "retention": {},
            "note": "kept",
        }
        before = rig.config.read_text()
        # What is said already by being left out needs no line of its own.
        await change(rig, {"limits": {"captures": 4, "waiting": "256"}})
        assert rig.config.read_text() == before


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"imu": {"port": "wide"}}, "imu.port", "must be a whole number"),
        ({"imu": {"port": 70000}}, "imu.port", "must be <= 65535"),
        ({"imu": {"broker": "mqtt://broker"}}, "imu.broker", "without mqtt://"),
        ({"imu": {"topic": "a/#/b"}}, "imu.topic", "at its end"),
        ({"imu": {"topic": "a/b+"}}, "imu.topic", "one whole level"),
        ({"imu": {"max_age": 0}}, "imu.max_age", "must be > 0"),
        ({"imu": {"max_age": "NaN"}}, "imu.max_age", "must be a number"),
        ({"retention": {"max_age_days": -1}}, "retention.max_age_days", "must be > 0"),
        ({"limits": {"captures": 65}}, "limits.captures", "must be <= 64"),
        ({"imu": {"password_file": "/etc/shadow"}}, "imu.password_file", BY_HAND),
        ({"imu": {"password_env": "HOME"}}, "imu.password_env", BY_HAND),
        ({"imu": {"password": "secret"}}, "imu.password", BY_HAND),
        ({"token_file": "/etc/passwd"}, "token_file", BY_HAND),
        ({"cameras": []}, "cameras", BY_HAND),
        ({"imu": 5}, "imu", "must be an object"),
    ],
)
async def test_settings_problem_names_its_field(changes: Any, field: str, words: str, tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"]) as rig:
        before = rig.config.read_bytes()
        checked = await rig.json("/api/v1/settings-check", "POST", json=changes)
        assert not checked["ok"]
        refused = await change(rig, changes, 422)
        assert refused["problems"] == checked["problems"]
        assert [one["field"] for one in checked["problems"]] == [field]
        said = checked["problems"][0]["message"]
        assert said.endswith(words) or not words.startswith("must")
        assert words in said
        assert rig.config.read_bytes() == before


async def test_settings_never_send_password_to_new_broker(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the password\n")
    imu = {"enabled": False, "broker": "broker.lan", "port": 1883, "password_file": "secret"}
    (tmp_path / "config.json").write_text(json.dumps({"cameras": [], "imu": imu}))
    async with serving(tmp_path) as rig:
        assert (await rig.json(SETTINGS))["imu"]["password"] is True
        assert "the password" not in json.dumps(await rig.json("/api/v1/state"))
        for changes in ({"broker": "evil.example"}, {"port": 1}, {"broker": ""}):
            refused = await change(rig, {"imu": changes}, 422)
            assert "password" in refused["problems"][0]["message"]
        # The same again, as a form sends it with the rest, is no change.
        await change(rig, {"imu": {"broker": "broker.lan", "port": "1883", "topic": "other"}})
        assert written(rig)["imu"] == imu | {"topic": "other"}


async def test_settings_change_converts_a_list_of_cameras(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('[{"name": "left", "device_path": "/dev/video0"}]')
    async with serving(tmp_path) as rig:
        await change(rig, {"retention": {"max_size_mb": 10}})
        found = written(rig)
        assert [one["name"] for one in found["cameras"]] == ["left"]
        assert found["retention"] == {"max_size_mb": 10}
        rig.config.write_text("{")
        refused = await change(rig, {"retention": {"max_size_mb": 20}}, 409)
        assert refused["code"] == "not_now"
        assert rig.config.read_text() == "{"


async def test_settings_change_repairs_a_broken_group(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"cameras": [], "imu": {"enabled": false, "port": "x"}}')
    async with serving(tmp_path) as rig:
        assert [one["field"] for one in (await rig.json("/api/v1/state"))["problems"]] == ["imu.port"]
        refused = await change(rig, {"imu": {"topic": "other"}}, 422)
        assert "imu.port" in refused["detail"]
        await change(rig, {"imu": {"port": 1885}})
        assert (await rig.json("/api/v1/state"))["problems"] == []


async def test_settings_refuse_other_sites_and_strangers(tmp_path: Path) -> None:
    changes = {"retention": {"max_age_days": 1}}
    async with serving(tmp_path, ["left"], token="correct horse battery staple") as rig:
        await change(rig, changes, 401)
        token = {"Authorization": "Bearer correct horse battery staple"}
        refused = await rig.json(
            SETTINGS,
            "PATCH",
            json=changes,
            headers={**token, "Sec-Fetch-Site": "cross-site"},
            status=403,
        )
        assert refused["code"] == "cross_site"
        answer = await rig.raw(
            b"POST /settings/server HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://evil.example\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 0\r\n"
            b"Connection: close\r\n\r\n"
        )
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert "retention" not in written(rig)


async def test_settings_change_by_a_program(tmp_path: Path) -> None:
    async with ConfigFile(tmp_path / "config.json") as config:
        await config.change_settings({"imu": {"max_age": 2.5}})
        assert config.current.imu.max_age == 2.5
        assert config.check_settings({"imu": {"max_age": "old"}})[0].field == "imu.max_age"
    assert json.loads((tmp_path / "config.json").read_text()) == {"cameras": [], "imu": {"max_age": 2.5}}
