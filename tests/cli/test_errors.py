"""Exit codes and error lines: what a shell script gets to see of an exception."""

import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import asynccam.errors as errors
from asynccam.cli.errors import EXTRAS, ExitCode, exit_code, one_line

CODES = [
    (errors.UsageError("x"), 2),
    (errors.AddressError("x"), 2),
    (errors.FeatureError("x"), 2),
    (errors.StateError("x"), 2),
    (errors.ConnectionError("x"), 3),
    (errors.TimeoutError("x"), 3),
    (errors.TakenOverError("x"), 3),
    (errors.BusyError("x"), 3),
    (errors.RemoteProtocolError("x"), 4),
    (errors.DeviceError("x"), 4),
    (errors.NotFoundError("x"), 4),
    (errors.ClockNotSynchronizedError("x"), 4),
    (errors.AuthenticationError("x"), 5),
    (errors.PermissionDeniedError("x"), 5),
    (errors.StorageError("x"), 6),
    (errors.InsufficientSpaceError("x", needed=2, free=1), 6),
    (errors.TargetExistsError("x"), 6),
    (errors.RecordingError("x"), 7),
    (errors.TransferError("x"), 8),
    (errors.DamagedFileError("x"), 8),
    (ModuleNotFoundError("x", name="jwt.api"), 9),
    (ModuleNotFoundError("x", name="jinja2"), 9),
    (ModuleNotFoundError("x", name="somewhere.else"), 1),
    (ValueError("x"), 1),
    (KeyboardInterrupt(), 130),
]


@pytest.mark.parametrize(("error", "code"), CODES, ids=lambda value: type(value).__name__)
def test_exit_code_of_each_error(error: BaseException, code: int) -> None:
    assert exit_code(error) == code


def test_exit_code_of_a_systems_base_error() -> None:
    class ServiceError(errors.AsynccamError):
        """As wings define their own."""

    assert exit_code(ServiceError("x")) == ExitCode.REFUSED


def test_exit_code_of_a_group() -> None:
    inner = ExceptionGroup("inner", [errors.StorageError("disk full"), ValueError("x")])
    assert exit_code(ExceptionGroup("outer", [inner, errors.UsageError("x")])) == ExitCode.STORAGE


def test_exit_code_of_library_errors_is_not_internal() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    ours = [kind for kind in kinds if issubclass(kind, errors.AsynccamError)]
    leaves = [kind for kind in ours if sum(issubclass(other, kind) for other in ours) == 1]
    assert len(leaves) > 10
    covered = {type(error) for error, _ in CODES}
    assert set(leaves) <= covered


def test_one_line_joins_lines() -> None:
    assert one_line(errors.RecordingError("no picture:\n  element not found\n")) == (
        "no picture: element not found"
    )


def test_one_line_of_a_group() -> None:
    group = ExceptionGroup("two", [errors.UsageError("first"), errors.UsageError("second")])
    assert one_line(group) == "first; second"


def test_one_line_of_an_unexpected_error() -> None:
    assert one_line(ValueError("odd")) == "unexpected ValueError: odd (--verbose shows where)"


def test_docs_list_every_exit_code() -> None:
    page = (Path(__file__).parents[2] / "docs/cli.md").read_text()
    for code in ExitCode:
        assert f"| {code.value} |" in page, code


@pytest.mark.parametrize("extra", ["server", "video"])
def test_every_package_of_an_extra_is_known(extra: str) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    of_extra = {module for module, name in EXTRAS.items() if name == extra}
    modules = packages_distributions()
    known = {name.lower().replace("_", "-") for module in of_extra for name in modules.get(module, ())}
    for requirement in project["project"]["optional-dependencies"][extra]:
        assert requirement.partition(">")[0].lower() in known, requirement


def test_one_line_names_the_missing_extra() -> None:
    assert one_line(ModuleNotFoundError("x", name="piexif")) == (
        'this needs piexif: pip install "asynccam[server]"'
    )
    assert "unexpected ModuleNotFoundError" in one_line(ModuleNotFoundError("x", name="nobody_has_it"))
