"""Simulated ThorVision server, for tests and trials."""
