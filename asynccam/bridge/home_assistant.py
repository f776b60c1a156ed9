"""Discovery messages for Home Assistant. See docs/mqtt.md.

They follow "MQTT Discovery" of Home Assistant: one retained configuration for each entity at
``PREFIX/COMPONENT/NODE/OBJECT/config``; an empty one removes the entity.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from asynccam.bridge.topics import OFF, OFFLINE, ON, ONLINE, PRESS, Topics, decoded, encoded, key_of, node_of
from asynccam.model.camera import Camera
from asynccam.model.features import Record, Snapshot
from asynccam.model.info import CameraState

DISCOVERY_PREFIX: Final = "homeassistant"
STARTING: Final = "starting"
"""State of a camera in a take that has not begun to record; cameras do not report it themselves."""
_COMPONENTS: Final = (("sensor", "state"), ("switch", "record"), ("button", "snapshot"), ("image", "picture"))
_ORIGIN: Final = {"name": "asynccam"}
_TOPICS: Final = ("state_topic", "command_topic", "image_topic")


@dataclass(frozen=True, slots=True)
class CameraDescription:
    """Facts of a camera that its entities are made of; ``model`` and ``serial`` may be ``""``."""

    key: str
    id: str
    name: str
    system: str
    model: str
    serial: str
    features: frozenset[str]

    @classmethod
    def of(cls, camera: Camera) -> Self:
        """Return the description of a camera of the session."""
        info, features = camera.info, frozenset(key.name for key in camera.features)
        return cls(key_of(camera.id), camera.id, info.name, info.system, info.model, info.serial, features)

    @classmethod
    def from_state(cls, key: str, state: Mapping[str, Any]) -> Self | None:
        """Return the description in a retained state, or None if that is invalid."""
        texts = [state.get(name, "") for name in ("id", "name", "system", "model", "serial")]
        features = state.get("features")
        if not texts[0] or not all(isinstance(text, str) for text in texts) or not isinstance(features, list):
            return None
        names = frozenset(name for name in features if isinstance(name, str))
        return cls(key, texts[0], texts[1], texts[2], texts[3], texts[4], names)


def birth_topic(prefix: str) -> str:
    """Return the topic at which Home Assistant reports its start, after which it needs everything again."""
    return f"{prefix}/status"


def config_filter(prefix: str) -> str:
    """Return the filter for configurations of entities, those of others too."""
    return f"{prefix}/+/+/+/config"


def camera_entities(camera: CameraDescription, topics: Topics, prefix: str) -> dict[str, str]:
    """Return the configurations of a camera's entities, by topic; empty for those it does not have."""
    key, node = camera.key, node_of(topics.prefix, camera.key)
    common = _common(topics, key, _device(camera, node))
    wanted: dict[str, Mapping[str, Any]] = {
        "state": {
            "name": "State",
            "icon": "mdi:cctv",
            "device_class": "enum",
            "options": [*(state.value for state in CameraState), STARTING],
            "state_topic": topics.of(key, "state"),
            "value_template": "{{ value_json.state }}",
            "json_attributes_topic": topics.of(key, "state"),
        }
    }
    if Record.name in camera.features:
        wanted["record"] = {
            "name": "Recording",
            "icon": "mdi:record-rec",
            "state_topic": topics.of(key, "state"),
            "value_template": _SWITCH,
            "command_topic": topics.command(key, "record"),
        }
    if Snapshot.name in camera.features:
        wanted["snapshot"] = {
            "name": "Take a picture",
            "icon": "mdi:camera",
            "command_topic": topics.command(key, "snapshot"),
            "payload_press": PRESS,
        }
        wanted["picture"] = {
            "name": "Last picture",
            "content_type": "image/jpeg",
            "image_topic": topics.of(key, "picture"),
        }
    return {
        _config(prefix, component, node, name): encoded(
            {**wanted[name], **common, "unique_id": f"{node}_{name}"}
        )
        if name in wanted
        else ""
        for component, name in _COMPONENTS
    }


def removed_camera_entities(key: str, topics: Topics, prefix: str) -> dict[str, str]:
    """Return the messages that remove all entities of a camera."""
    node = node_of(topics.prefix, key)
    return {_config(prefix, component, node, name): "" for component, name in _COMPONENTS}


def bridge_entities(topics: Topics, prefix: str) -> dict[str, str]:
    """Return the switch for a take of all cameras, and the sensor for notices."""
    node = f"asynccam_bridge_{key_of(topics.prefix)}"
    common = {
        "availability_topic": topics.status,
        "payload_available": ONLINE,
        "payload_not_available": OFFLINE,
        "device": {"identifiers": [node], "name": "asynccam", "manufacturer": "asynccam"},
        "origin": _ORIGIN,
    }
    take = {
        "name": "Take with all cameras",
        "icon": "mdi:movie-open",
        "unique_id": f"{node}_take",
        "state_topic": topics.take,
        "value_template": f"{{{{ '{ON}' if value_json.running else '{OFF}' }}}}",
        "json_attributes_topic": topics.take,
        "command_topic": topics.command("take", "record"),
    }
    notice = {
        "name": "Notice",
        "device_class": "problem",
        "entity_category": "diagnostic",
        "unique_id": f"{node}_notice",
        "state_topic": topics.notice,
        "value_template": f"{{{{ '{ON}' if value_json.problems else '{OFF}' }}}}",
        "json_attributes_topic": topics.notice,
    }
    return {
        _config(prefix, "switch", node, "take"): encoded(take | common),
        _config(prefix, "binary_sensor", node, "notice"): encoded(notice | common),
    }


def key_of_config(payload: bytes, topics: Topics) -> str | None:
    """Return the key whose entity a bridge of this prefix configured with a payload; None for all others.

    Other bridges' prefixes may begin with this one, so that only whole topics count.
    """
    config = decoded(payload)
    if config is None or config.get("origin") != _ORIGIN:
        return None
    for name in _TOPICS:
        topic = config.get(name)
        if not isinstance(topic, str):
            continue
        if topic in (topics.take, topics.notice):
            return ""
        found = topics.read_kept(topic) or topics.read_command(topic)
        if found is not None:
            return found[0]
    return None


_SWITCH: Final = (
    f"{{% set s = value_json.state %}}"
    f"{{{{ '{ON}' if s in ('recording', '{STARTING}') else 'None' if s == 'unknown' else '{OFF}' }}}}"
)
"""``None`` is Home Assistant's value for a switch whose state is unknown."""


def _common(topics: Topics, key: str, device: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "availability": [{"topic": topics.status}, {"topic": topics.of(key, "availability")}],
        "availability_mode": "all",
        "payload_available": ONLINE,
        "payload_not_available": OFFLINE,
        "device": device,
        "origin": _ORIGIN,
    }


def _device(camera: CameraDescription, node: str) -> dict[str, Any]:
    device = {
        "identifiers": [node],
        "name": camera.name or camera.id,
        "manufacturer": camera.system,
        "model": camera.model,
        "serial_number": camera.serial,
    }
    return {name: value for name, value in device.items() if value}


def _config(prefix: str, component: str, node: str, name: str) -> str:
    return f"{prefix}/{component}/{node}/{name}/config"
