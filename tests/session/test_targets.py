"""CameraTarget: an address in either form, and what is checked of it."""

from dataclasses import FrozenInstanceError, replace

import pytest

from asynccam import Address, AddressError, CameraTarget, Credentials
from asynccam.errors import UsageError
from asynccam.session.targets import as_targets


def test_target_takes_text() -> None:
    target = CameraTarget("multicam://hill", label="left", groups={"yard"})
    address: Address = target.address
    assert address == Address("multicam", "hill", 8080)
    assert (target.label, target.groups) == ("left", frozenset({"yard"}))
    assert target.credentials == Credentials()
    assert target.http_port is None


def test_target_of_text_equals_target_of_address() -> None:
    address = Address.parse("mediamtx://host/camera0")
    by_text, by_address = CameraTarget(str(address), "x"), CameraTarget(address, "x")
    assert by_text == by_address
    assert hash(by_text) == hash(by_address)
    assert "mediamtx" in repr(by_text)


def test_target_is_frozen_and_can_be_replaced() -> None:
    target = CameraTarget("multicam://hill", credentials=Credentials(token="t"))
    with pytest.raises(FrozenInstanceError):
        target.label = "x"  # type: ignore[misc]
    changed = replace(target, label="x")
    assert (changed.label, changed.address, changed.credentials.token) == ("x", target.address, "t")


@pytest.mark.parametrize("text", ["hill", "other://hill", "multicam://user:secret@hill", ""])
def test_target_of_invalid_text_raises_address_error(text: str) -> None:
    with pytest.raises(AddressError):
        CameraTarget(text)


@pytest.mark.parametrize(
    ("address", "is_service"),
    [
        ("mediamtx://host", True),
        ("mediamtx://host/camera0", False),
        ("multicam://host", False),
        ("snapshots://host/cams/", True),
        ("nanocam://host", False),
    ],
)
def test_target_without_camera_is_service_of_some_systems(address: str, is_service: bool) -> None:
    assert CameraTarget(address).is_service is is_service


def test_labels_of_a_mapping_override_those_of_targets() -> None:
    labelled: dict[str, CameraTarget | Address | str] = {
        "door": CameraTarget("multicam://a", label="x"),
        "gate": "multicam://b",
    }
    targets = as_targets((), labelled, Credentials(token="t"))
    assert [target.label for target in targets] == ["door", "gate"]
    assert [target.credentials.token for target in targets] == [None, "t"]


def test_same_address_in_two_forms_is_refused() -> None:
    with pytest.raises(UsageError, match="given twice"):
        as_targets(("multicam://a", CameraTarget("multicam://a:8080")), {}, None)
