"""A session on an MQTT broker: states and events out, commands in; at home in Home Assistant."""
