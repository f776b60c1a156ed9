"""``asynccam resume``: finishes a take whose process died."""

from pathlib import Path
from typing import Annotated

import typer

from asynccam.cli.errors import ExitCode
from asynccam.cli.options import ApiKeyOption, JsonOption, TokenOption, VerboseOption, credentials_of
from asynccam.cli.output import Output
from asynccam.cli.running import execute
from asynccam.model.credentials import Credentials

TakeArgument = Annotated[
    Path, typer.Argument(metavar="TAKE", help="The take's own directory.", show_default=False)
]


def resume(
    take: TakeArgument,
    token: TokenOption = None,
    api_key: ApiKeyOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Finish a take whose process died: stop what still runs, bring home what exists."""
    output = Output(json=json, verbose=verbose)
    execute("resume", lambda: _resume(take, credentials_of(token, api_key), output), output)


async def _resume(directory: Path, credentials: Credentials | None, output: Output) -> ExitCode:
    from asynccam.cli.opening import open_session
    from asynccam.cli.report import take_report, whole
    from asynccam.recording.verdict import verify_file
    from asynccam.take import resume_take

    async with open_session() as session:
        with output.waiting("resuming"):
            manifest = await resume_take(directory, session, credentials=credentials, verify=verify_file)
    output.document({"directory": directory, "complete": whole(manifest), "manifest": manifest})
    output.show(take_report(manifest, directory))
    return ExitCode.OK if whole(manifest) else ExitCode.INCOMPLETE
