"""Messages by which Home Assistant finds the cameras of a bridge. See docs/mqtt.md.

They follow "MQTT Discovery" of Home Assistant: one retained configuration for each entity at
``PREFIX/COMPONENT/NODE/OBJECT/config``; an empty one takes the entity away again.
"""

from collections.abc import Mapping
from typing import Any, Final

from asynccam.bridge.topics import OFF, OFFLINE, ON, ONLINE, PRESS, Topics, encoded, key_of
from asynccam.model.camera import Camera
from asynccam.model.features import Record, Snapshot
from asynccam.model.info import CameraState

DISCOVERY_PREFIX: Final = "homeassistant"
_COMPONENTS: Final = (("sensor", "state"), ("switch", "record"), ("button", "snapshot"), ("image", "picture"))
_ORIGIN: Final = {"name": "asynccam"}


def birth_topic(prefix: str) -> str:
    """Where Home Assistant says that it has (re)started and wants to be told everything again."""
    return f"{prefix}/status"


def camera_entities(camera: Camera, topics: Topics, prefix: str) -> dict[str, str]:
    """The configurations of one camera's entities, by topic; those it does not have are empty."""
    key = key_of(camera.id)
    common = _common(topics, key, _device(camera))
    wanted: dict[str, Mapping[str, Any]] = {
        "state": {
            "name": "State",
            "icon": "mdi:cctv",
            "device_class": "enum",
            "options": [state.value for state in CameraState],
            "state_topic": topics.of(key, "state"),
            "value_template": "{{ value_json.state }}",
            "json_attributes_topic": topics.of(key, "state"),
        }
    }
    if camera.supports(Record):
        wanted["record"] = {
            "name": "Recording",
            "icon": "mdi:record-rec",
            "state_topic": topics.of(key, "state"),
            "value_template": f"{{{{ '{ON}' if value_json.state == 'recording' else '{OFF}' }}}}",
            "command_topic": topics.command(key, "record"),
        }
    if camera.supports(Snapshot):
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
        _config(prefix, component, key, name): encoded(
            {**wanted[name], **common, "unique_id": f"asynccam_{key}_{name}"}
        )
        if name in wanted
        else ""
        for component, name in _COMPONENTS
    }


def no_camera_entities(key: str, prefix: str) -> dict[str, str]:
    """What takes all entities of a camera away again."""
    return {_config(prefix, component, key, name): "" for component, name in _COMPONENTS}


def take_entity(topics: Topics, prefix: str) -> dict[str, str]:
    """The switch that starts and ends a take over all cameras."""
    key = key_of(topics.prefix)
    device = {"identifiers": [f"asynccam_bridge_{key}"], "name": "asynccam", "manufacturer": "asynccam"}
    config = {
        "name": "Take with all cameras",
        "icon": "mdi:movie-open",
        "unique_id": f"asynccam_bridge_{key}_take",
        "state_topic": topics.take,
        "value_template": f"{{{{ '{ON}' if value_json.running else '{OFF}' }}}}",
        "json_attributes_topic": topics.take,
        "command_topic": topics.command("take", "record"),
        "availability_topic": topics.status,
        "device": device,
        "origin": _ORIGIN,
    }
    return {_config(prefix, "switch", f"bridge_{key}", "take"): encoded(config)}


def _common(topics: Topics, key: str, device: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "availability": [{"topic": topics.status}, {"topic": topics.of(key, "availability")}],
        "availability_mode": "all",
        "payload_available": ONLINE,
        "payload_not_available": OFFLINE,
        "device": device,
        "origin": _ORIGIN,
    }


def _device(camera: Camera) -> dict[str, Any]:
    info = camera.info
    device = {
        "identifiers": [f"asynccam_{key_of(camera.id)}"],
        "name": info.name or camera.id,
        "manufacturer": info.system,
        "model": info.model,
        "serial_number": info.serial,
    }
    return {name: value for name, value in device.items() if value}


def _config(prefix: str, component: str, key: str, name: str) -> str:
    return f"{prefix}/{component}/asynccam_{key}/{name}/config"
