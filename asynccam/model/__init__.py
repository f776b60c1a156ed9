"""Plain values: the Camera interface, events, descriptions and feature keys."""
