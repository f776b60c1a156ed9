"""The program on README's first screen runs, with an address in place of the search of the whole network."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.multicam_device import running

README = (Path(__file__).parents[1] / "README.md").read_text()


async def test_the_shortest_program_records_a_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    match = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert match is not None
    program = match[1]
    async with running(tmp_path / "device") as device:
        for shown, here in (
            ("session.discover()", f'session.connect_all(["multicam://127.0.0.1:{device.port}"])'),
            ("duration=5", "duration=0.2, start_in=0.2"),
            ('Path("takes")', f"Path({str(tmp_path / 'takes')!r})"),
            ("\nasyncio.run(main())\n", ""),
        ):
            assert shown in program
            program = program.replace(shown, here)
        names: dict[str, Any] = {}
        exec(compile(program, "README.md", "exec"), names)
        await names["main"]()
    assert capsys.readouterr().out.startswith(f"complete {tmp_path / 'takes'}")


def test_every_file_the_readme_points_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (Path(__file__).parents[1] / target).exists(), target
