"""The states of a take, as a table."""

from collections.abc import Mapping
from enum import Enum
from typing import Final


class TakeState(Enum):
    """Where a take stands; also the phase in its manifest and events."""

    NEW = "new"
    ARMING = "arming"
    ARMED = "armed"
    STARTING = "starting"
    RECORDING = "recording"
    STOPPING = "stopping"
    STOPPED = "stopped"
    COLLECTING = "collecting"
    DONE = "done"


_S = TakeState
TRANSITIONS: Final[Mapping[TakeState, frozenset[TakeState]]] = {
    _S.NEW: frozenset({_S.ARMING, _S.DONE}),
    _S.ARMING: frozenset({_S.ARMED, _S.DONE}),
    _S.ARMED: frozenset({_S.STARTING, _S.DONE}),
    _S.STARTING: frozenset({_S.RECORDING, _S.STOPPING, _S.DONE}),
    _S.RECORDING: frozenset({_S.STOPPING, _S.DONE}),
    _S.STOPPING: frozenset({_S.STOPPED, _S.DONE}),
    _S.STOPPED: frozenset({_S.COLLECTING, _S.DONE}),
    _S.COLLECTING: frozenset({_S.DONE}),
    _S.DONE: frozenset(),
}
"""What may follow what. ``STARTING`` to ``STOPPING`` is the way of a take that is cancelled before T0."""
