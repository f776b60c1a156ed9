"""Secrets in files: one rule, for a fleet's tokens as for a server's."""

from pathlib import Path

import pytest

from asynccam.errors import StorageError, UsageError
from asynccam.runtime.disk import read_secret_file


@pytest.mark.parametrize(
    "data",
    [
        b"s3cret",
        b"s3cret\n",
        b" s3cret \r\n",
        b"\n\n s3cret\n",
        b"s3cret\nmore\nlines\n",
        b"s3cret\n" + b"x" * 9000,
    ],
)
def test_read_secret_file_first_line_that_is_not_blank(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(data)
    assert read_secret_file(path) == "s3cret"


def test_read_secret_file_keeps_inner_white_space(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("two words\tand a tab\n")
    assert read_secret_file(tmp_path / "token") == "two words\tand a tab"


@pytest.mark.parametrize("data", [b"", b" \n\n", b"\xff\xfe", b"a\0b", b"a\rb", b"s3cret\n" + b"x" * 65536])
def test_read_secret_file_refusal_does_not_quote_the_file(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(data)
    with pytest.raises(UsageError, match="token holds no secret") as caught:
        read_secret_file(path)
    assert "s3cret" not in str(caught.value)


def test_read_secret_file_unreadable(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot read the secret in"):
        read_secret_file(tmp_path / "missing")
