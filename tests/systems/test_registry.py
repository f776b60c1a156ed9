"""Adapters are loaded when they are first needed, and only those."""

import subprocess
import sys

import pytest

from asynccam.errors import AddressError
from asynccam.model.systems import SYSTEMS
from asynccam.systems import SystemAdapter
from asynccam.systems.registry import adapter_of, load_adapter

PROGRAM = """
import sys
from asynccam import Address, Session
from asynccam.model.systems import SYSTEMS
from asynccam.systems.registry import adapter_of

def loaded():
    names = {name.split(".")[2] for name in sys.modules if name.startswith("asynccam.systems.")}
    return sorted(names & SYSTEMS.keys())

Session(), Address.parse("mediamtx://host")
print(loaded())
adapter_of("nanocam")
print(loaded())
"""


def test_session_loads_no_system_before_it_is_used() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["[]", "['nanocam']"]


@pytest.mark.parametrize("name", SYSTEMS)
async def test_every_system_has_an_adapter(name: str) -> None:
    adapter = await load_adapter(name)
    assert isinstance(adapter, SystemAdapter)
    assert adapter is adapter_of(name)


@pytest.mark.parametrize("name", SYSTEMS)
async def test_adapter_has_what_its_system_declares(name: str) -> None:
    adapter, system = type(await load_adapter(name)), SYSTEMS[name]
    assert (adapter.list_cameras is not SystemAdapter.list_cameras) is system.is_service
    assert (adapter.discover is not SystemAdapter.discover) is system.discoverable


async def test_unknown_system_is_an_address_error() -> None:
    with pytest.raises(AddressError, match="unknown system 'other'; known are multicam"):
        await load_adapter("other")
    with pytest.raises(AddressError, match="unknown system 'other'"):
        adapter_of("other")
