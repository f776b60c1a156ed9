"""Trouble on purpose: what a ThorVision server may do wrong, as switches for tests and demonstrations."""

from dataclasses import dataclass


@dataclass(slots=True)
class ServerFaults:
    """How a `ThorVisionSimulator` misbehaves; may be changed while it runs. The default does nothing.

    Attributes:
        never_stream: Starts are accepted, and nothing is ever sent.
        stream_after: Seconds after an accepted start in which nothing listens yet.
        die_after: Seconds after which a stream ends without a word, or None.
        return_after: Seconds after which a stream that died begins again, or None for never.
        refused_ports: Ports that a start is refused on, as if another client used them; None for all.
        refuse_stop: Stops are refused, though carried out.
        slow: Seconds before every HTTP answer.
        wrong_json: Answers are no JSON.
        repeat_added: Every ``Added`` is told twice.
    """

    never_stream: bool = False
    stream_after: float = 0.0
    die_after: float | None = None
    return_after: float | None = None
    refused_ports: frozenset[int] | None = frozenset()
    refuse_stop: bool = False
    slow: float = 0.0
    wrong_json: bool = False
    repeat_added: bool = False

    def refuses(self, port: int) -> bool:
        """Whether a start on a port is refused."""
        return self.refused_ports is None or port in self.refused_ports
