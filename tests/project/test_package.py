"""What is published: a wheel and a source distribution, built and installed from nothing but themselves."""

import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_SECONDS = 60.0


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution, and the wheel that was built from it."""
    directory = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", directory, ROOT)
    (source,), (wheel,) = directory.glob("*.tar.gz"), directory.glob("*.whl")
    return source, wheel


def test_distributions_pass_the_index_check(published: tuple[Path, Path]) -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", *published)


def test_distributions_have_the_needed_files(published: tuple[Path, Path]) -> None:
    source, wheel = published
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if not name.startswith("asynccam-")}
    files = (path for path in (ROOT / "asynccam").rglob("*") if path.is_file())
    assert packed == {str(path.relative_to(ROOT)) for path in files if path.suffix != ".pyc"}
    assert "asynccam/py.typed" in packed
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= {
        "README.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "Makefile",
        ".ci/setup",
        ".ci/run",
        "mkdocs.yml",
    }


def test_installed_package_imports_little(published: tuple[Path, Path], tmp_path: Path) -> None:
    """A bare import brings in none of what takes long; `benchmarks/imports.py` has the times."""
    place = tmp_path / "site"
    with zipfile.ZipFile(published[1]) as archive:
        archive.extractall(place)
    program = "import asynccam, json, sys; print(json.dumps([asynccam.__file__, sorted(sys.modules)]))"
    where, modules = json.loads(
        run(sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(place)!r}); {program}")
    )
    assert where.startswith(str(place))
    assert not {"aiohttp", "pydantic", "zeroconf", "websockets", "typer", "rich", "numpy"} & set(modules)


def test_installed_command_names_its_extra(published: tuple[Path, Path], tmp_path: Path) -> None:
    place = tmp_path / "site"
    with zipfile.ZipFile(published[1]) as archive:
        archive.extractall(place)
    (place / "typer.py").write_text("raise ModuleNotFoundError(name='typer')")
    program = f"import sys; sys.path.insert(0, {str(place)!r}); from asynccam.cli.main import run; run()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    assert (done.returncode, done.stdout) == (9, "")
    assert 'pip install "asynccam[cli]"' in done.stderr
