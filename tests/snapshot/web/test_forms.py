"""Forms as browsers, scripts and strangers send them."""

from pathlib import Path

import pytest

from tests.snapshot.web.rig import serving

FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"name=\xff\xfe&device_path=/dev/a", FORM),
        (b"name=a&device_path=/dev/a", f"{FORM}; charset=nonsense"),
        (b"name=a&device_path=/dev/a", f"{FORM}; charset=utf-16"),
    ],
)
async def test_a_form_that_is_no_text_is_refused(body: bytes, content_type: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        for path in ("/settings/add", "/login"):
            headers = {"Content-Type": content_type}
            async with rig.http.post(path, data=body, headers=headers, allow_redirects=False) as answer:
                assert answer.status == 400
        assert await rig.json("/api/cameras") == []
