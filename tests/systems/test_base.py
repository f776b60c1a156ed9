"""What the systems share: the choice of a camera."""

from collections.abc import Sequence

import pytest

from asynccam.errors import AddressError, NotFoundError
from asynccam.model.address import Address
from asynccam.systems._base import choose_camera

SERVICE = Address("thorvision", "host", 8000)


def choose(cameras: Sequence[tuple[str, str]], name: str) -> tuple[str, str]:
    """Choose among cameras of a key and a name."""
    return choose_camera(
        cameras,
        SERVICE.with_camera(name),
        lambda camera: (camera[0],),
        lambda camera: (camera[1],),
        hint="; plug it in",
    )


def test_address_without_camera_chooses_the_only_one() -> None:
    assert choose([("usb-1", "left")], "") == ("usb-1", "left")


@pytest.mark.parametrize(("count", "listed"), [(0, "no camera"), (2, "usb-0, usb-1")])
def test_address_without_camera_is_refused_unless_there_is_one(count: int, listed: str) -> None:
    cameras = [(f"usb-{index}", "left") for index in range(count)]
    with pytest.raises(AddressError, match=f"has {count} cameras; name one of: {listed}"):
        choose(cameras, "")


def test_earlier_names_take_precedence() -> None:
    cameras = [("usb-1", "usb-2"), ("usb-2", "right")]
    assert choose(cameras, "usb-2") == ("usb-2", "right")
    assert choose(cameras, "right") == ("usb-2", "right")


def test_name_of_several_cameras_is_refused() -> None:
    with pytest.raises(AddressError, match="may be any of: usb-1, usb-2"):
        choose([("usb-1", "left"), ("usb-2", "left"), ("usb-3", "right")], "left")


def test_unknown_name_is_not_found() -> None:
    with pytest.raises(NotFoundError, match="usb-9 is not there; the service has usb-1; plug it in"):
        choose([("usb-1", "left")], "usb-9")


def test_error_lists_labels() -> None:
    with pytest.raises(NotFoundError, match="the service has 'a'"):
        choose_camera(["a"], SERVICE.with_camera("b"), lambda name: (name,), label=repr)
