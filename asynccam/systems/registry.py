"""Adapters of the camera systems, loaded when they are first needed."""

import asyncio
from importlib import import_module
from typing import Final

from asynccam.errors import UsageError
from asynccam.model.systems import SYSTEMS, System, schemes, system_of
from asynccam.systems._base import SystemAdapter

_adapters: Final[dict[str, SystemAdapter]] = {}
"""Adapters that are ready. A module in `sys.modules` may still be half loaded, by another thread."""


def register(system: System, adapter: SystemAdapter) -> None:
    """Make a camera system known to every session of this process, and its scheme to `Address`.

    Raises:
        UsageError: One of its schemes is taken, or cannot be one.
    """
    taken = schemes()
    for scheme in (system.name, *([f"{system.name}s"] if system.secure_port is not None else [])):
        if not scheme.isascii() or not scheme.isalnum() or scheme != scheme.lower():
            raise UsageError(f"{scheme!r} is not a scheme; use lower-case ASCII letters and digits")
        if scheme in taken:
            raise UsageError(f"the scheme {scheme!r} is already registered")
    SYSTEMS[system.name] = system
    _adapters[system.name] = adapter


def adapter_of(name: str) -> SystemAdapter:
    """Return a system's adapter; blocks while it is loaded. Raise `AddressError` for an unknown system."""
    system_of(name)
    if name not in _adapters:
        _adapters[name] = _import_adapter(name)
    return _adapters[name]


async def load_adapter(name: str) -> SystemAdapter:
    """Return a system's adapter, loaded off the event loop; raise `AddressError` for an unknown system."""
    system_of(name)
    if name not in _adapters:
        # Reading and compiling it takes a while.
        _adapters[name] = await asyncio.to_thread(_import_adapter, name)
    return _adapters[name]


def _import_adapter(name: str) -> SystemAdapter:
    adapter: object = import_module(f"asynccam.systems.{name}.adapter").ADAPTER
    assert isinstance(adapter, SystemAdapter)
    return adapter
