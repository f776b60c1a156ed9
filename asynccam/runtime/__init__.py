"""Asyncio helpers without sockets: tasks, events, deadlines, retries, file work off the loop."""
