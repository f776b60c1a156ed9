"""Algorithms of digests: which there are, what they need, and where their values are kept."""

import subprocess
import sys

import pytest

from asynccam.errors import UsageError
from asynccam.model.digest import (
    DIGEST_NAMES,
    DigestChoice,
    DigestName,
    checked_digest,
    digest_fields,
    new_hasher,
)

# Test vectors of the algorithms' own documents, for no bytes and for "abc".
EXPECTED = {
    "sha256": (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    ),
    "blake3": (
        "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
    ),
    "xxh3": ("99aa06d3014798d86001c324468d497f", "06b05ab6733a618578af5f94892f3950"),
}


@pytest.mark.parametrize("name", DIGEST_NAMES)
def test_digest_of_an_algorithm(name: DigestName) -> None:
    hasher = new_hasher(name)
    values = [hasher.hexdigest()]
    hasher.update(memoryview(b"ab"))
    hasher.update(b"c")
    assert (*values, hasher.hexdigest()) == EXPECTED[name]


@pytest.mark.parametrize(
    ("choice", "name"),
    [(True, "sha256"), (False, None), (None, None), *[(name, name) for name in DIGEST_NAMES]],
)
def test_checked_digest(choice: DigestChoice, name: DigestName | None) -> None:
    assert checked_digest(choice) == name


def test_checked_digest_of_an_unknown_algorithm() -> None:
    with pytest.raises(UsageError, match="digest must be one of sha256, blake3, xxh3, or None, not 'md5'"):
        checked_digest("md5")  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "package"), [("blake3", "blake3"), ("xxh3", "xxhash")])
def test_missing_package_names_the_extra(
    name: DigestName, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf'digest {name} needs {package}: pip install "asynccam\[speed\]"'):
        checked_digest(name)


def test_digest_fields() -> None:
    assert digest_fields("sha256", "ab") == {"sha256": "ab"}
    assert digest_fields("blake3", "ab") == {"digest": "blake3:ab"}
    assert digest_fields(None, "") == {}


def test_packages_are_imported_when_asked_for() -> None:
    program = (
        "import sys; from asynccam.systems.multicam import MultiCamClient; from asynccam.take import Take;"
        "from asynccam.model.digest import new_hasher; new_hasher('sha256');"
        "print(*sorted({'blake3', 'xxhash'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""
