"""Arguments and options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, cast

import typer

if TYPE_CHECKING:
    from asynccam.model.digest import DigestName

ADDRESS_FORM: Final = r"SYSTEM://HOST\[:PORT]\[/CAMERA]"
"""Form of addresses, with the brackets escaped for Rich's markup."""
_ADDRESS_HELP: Final = f"{ADDRESS_FORM}, for example multicam://192.168.1.20:8080."


class Digest(StrEnum):
    """Choices of ``--digest``."""

    SHA256 = "sha256"
    BLAKE3 = "blake3"
    XXH3 = "xxh3"
    NONE = "none"

    @property
    def algorithm(self) -> "DigestName | None":
        """Argument ``digest`` of the library."""
        return None if self is Digest.NONE else cast("DigestName", self.value)


AddressArgument = Annotated[str, typer.Argument(metavar="URI", help=_ADDRESS_HELP, show_default=False)]
UrisArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="URI",
        help=f"Any number of {ADDRESS_FORM}; a service without a camera means all of its cameras.",
        show_default=False,
    ),
]
FleetOption = Annotated[
    Path | None,
    typer.Option("--fleet", metavar="FILE", help="The cameras of a fleet.toml, too.", show_default=False),
]
DirectoryOption = Annotated[Path, typer.Option("--to", metavar="DIR", help="Directory; created if missing.")]
InterfacesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--interface",
        metavar="IP",
        help="Use mDNS on the network interface with this address only; may be repeated.",
        show_default="all",
    ),
]
TokenOption = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="TOKEN",
        envvar="ASYNCCAM_TOKEN",
        help="Token for services that require one; safer in the environment than on a command line.",
        show_default=False,
    ),
]
ApiKeyOption = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        metavar="KEY",
        envvar="ASYNCCAM_API_KEY",
        help="API key for services that require one.",
        show_default=False,
    ),
]
DigestOption = Annotated[
    Digest,
    typer.Option(
        "--digest",
        help="Algorithm of the files' digests, or none; blake3 and xxh3 need the extra speed.",
    ),
]
PortOption = Annotated[
    int, typer.Option("--port", min=0, max=65535, metavar="P", help="TCP port; 0 takes a free one.")
]
AnswerTimeoutOption = Annotated[
    float,
    typer.Option("--timeout", min=0.1, metavar="S", help="Seconds to wait for cameras that do not answer."),
]
AllOption = Annotated[
    bool, typer.Option("--all", help="Also every camera that announces itself, now or later.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show the log, and tracebacks of errors, on stderr.")
]


class LogLevel(StrEnum):
    """Least severe level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
