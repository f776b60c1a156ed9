"""docs/mqtt.md says what is so."""

import re
from pathlib import Path

from asynccam.bridge.commands import _MAX_WAITING
from asynccam.bridge.take_request import MAX_PAYLOAD
from asynccam.bridge.topics import ALL, Topics

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "mqtt.md").read_text()


def test_page_has_every_topic() -> None:
    topics = Topics()
    named = set(re.findall(r"^\| `(asynccam[^`]*)`", PAGE, re.MULTILINE))
    told = {topics.of("KEY", what) for what in ("state", "availability", "event", "picture", "result")}
    heard = {
        topics.command("KEY", "record"),
        topics.command("KEY", "snapshot"),
        topics.command(ALL, "record"),
    }
    assert named == told | heard | {topics.status, topics.event, topics.take, topics.notice, topics.sync}


def test_page_has_the_limits() -> None:
    assert f"over {MAX_PAYLOAD} bytes" in PAGE
    assert _MAX_WAITING == 8
    assert "when eight wait" in PAGE
