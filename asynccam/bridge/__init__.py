"""Bridge from a session to an MQTT broker, with Home Assistant discovery."""
