"""``asynccam status``: show one camera's state."""

from rich.table import Table
from rich.text import Text

from asynccam.cli import formatting
from asynccam.cli.errors import ExitCode
from asynccam.cli.options import AddressArgument
from asynccam.cli.output import Output
from asynccam.cli.runner import command
from asynccam.model.camera import Camera
from asynccam.model.credentials import Credentials
from asynccam.model.info import CameraState, CameraStatus

_STYLES = {
    CameraState.READY: "good",
    CameraState.RECORDING: "recording",
    CameraState.STOPPING: "busy",
    CameraState.ERROR: "bad",
    CameraState.UNAVAILABLE: "bad",
}


@command("status")
async def status(
    uri: AddressArgument,
    *,
    credentials: Credentials | None,
    output: Output,
) -> ExitCode:
    """Show a camera's state, battery and clock."""
    from asynccam.session import Session

    async with Session(poll_interval=None) as session:
        with output.show_wait(f"asking {uri}"):
            camera = await session.connect(uri, credentials=credentials)
            answer = await camera.status()
        features = sorted(key.name for key in camera.features)
        output.json_document({"camera": camera.info, "features": features, "status": answer})
        output.print(_sheet(camera, answer, features))
    return ExitCode.OK


def _sheet(camera: Camera, answer: CameraStatus, features: list[str]) -> Table:
    info = camera.info
    sheet = Table.grid(padding=(0, 2))
    sheet.add_column(style="faint")
    sheet.add_column(overflow="fold")
    sheet.add_row("camera", formatting.device_text(info.name, "name"))
    sheet.add_row("id", formatting.device_text(info.id))
    sheet.add_row("address", formatting.device_text(info.address, "key"))
    state = Text(answer.state.value, style=_STYLES.get(answer.state, "busy"))
    if answer.detail and answer.detail != answer.state.value:
        state.append_text(formatting.device_text(f", {answer.detail}", "faint"))
    sheet.add_row("state", state)
    if answer.battery is not None:
        sheet.add_row("battery", f"{answer.battery:.0f} %")
    if answer.device_time is not None:
        sheet.add_row("its clock", formatting.format_time(answer.device_time))
    sheet.add_row("can do", ", ".join(features))
    return sheet
