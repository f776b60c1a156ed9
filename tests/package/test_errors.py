"""The tree of errors: drawn as it stands, and each class answers the three questions."""

import builtins
import inspect
import pickle
import re
from pathlib import Path

import pytest

from asynccam import errors
from asynccam.errors import (
    AsynccamError,
    AuthenticationError,
    BusyError,
    DeviceError,
    FatalError,
    InsufficientSpaceError,
    RecordingError,
    RemoteProtocolError,
    RetryableError,
    TargetExistsError,
    TransferError,
    UsageError,
)

CLASSES = [one for _, one in inspect.getmembers(errors, inspect.isclass) if one.__module__ == errors.__name__]
BRANCHES = (UsageError, RetryableError, FatalError, AuthenticationError)


def drawn() -> dict[str, tuple[str | None, str | None]]:
    """Name -> parent and second base, read off the picture in the module's docstring."""
    tree: dict[str, tuple[str | None, str | None]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    (?P<lines>[│ ]*[├└]── |)(?P<name>\w+Error)\b(?: \((?P<second>\w+)\))?", line)
        if found is None:
            continue
        depth = len(found["lines"]) // 4
        path[depth:] = [found["name"]]
        tree[found["name"]] = (path[depth - 1] if depth else None, found["second"])
    return tree


def test_error_tree_in_the_docstring_is_true() -> None:
    actual = {}
    for one in CLASSES:
        first, *others = one.__bases__
        parent = None if one is AsynccamError else first.__name__
        actual[one.__name__] = (parent, others[0].__name__ if others else None)
    assert drawn() == actual
    assert len(actual) > 15


@pytest.mark.parametrize("one", CLASSES)
def test_every_class_is_in_exactly_one_branch(one: type[Exception]) -> None:
    assert issubclass(one, AsynccamError)
    assert sum(issubclass(one, branch) for branch in BRANCHES) == (one is not AsynccamError)


@pytest.mark.parametrize("one", CLASSES)
def test_no_name_shadows_a_builtin_without_being_one(one: type[Exception]) -> None:
    shadowed = getattr(builtins, one.__name__, None)
    assert shadowed is None or issubclass(one, shadowed)


def test_builtin_names_are_builtin_errors() -> None:
    assert issubclass(errors.ConnectionError, builtins.ConnectionError)
    assert issubclass(errors.TimeoutError, builtins.TimeoutError)
    assert issubclass(errors.TargetExistsError, FileExistsError)


@pytest.mark.parametrize("one", CLASSES)
def test_every_error_keeps_its_text_and_survives_pickling(one: type[Exception]) -> None:
    error = pickle.loads(pickle.dumps(one("multicam://hill:8080 is gone")))
    assert type(error) is one
    assert str(error) == "multicam://hill:8080 is gone"
    assert one.__doc__


@pytest.mark.parametrize("one", [errors.ConnectionError, errors.TimeoutError])
def test_maybe_executed_is_kept(one: type[errors.ConnectionError]) -> None:
    assert one("gone").maybe_executed is False
    error = pickle.loads(pickle.dumps(one("gone", maybe_executed=True)))
    assert error.maybe_executed is True


def test_error_details_are_kept() -> None:
    cut = TransferError("cut", part=Path("a.part"), received=3, expected=9)
    assert (cut.part, cut.received, cut.expected) == (Path("a.part"), 3, 9)
    full = pickle.loads(pickle.dumps(InsufficientSpaceError("full", needed=9, free=3)))
    assert (full.needed, full.free) == (9, 3)
    assert DeviceError("no", status="error").status == "error"
    assert RecordingError("died", output="tail").output == "tail"


def test_storage_error_is_caught_as_an_os_error() -> None:
    with pytest.raises(OSError, match="there"):
        raise TargetExistsError("there already")


@pytest.mark.parametrize(
    ("one", "ours", "again", "credentials"),
    [
        (errors.AddressError, True, False, False),
        (BusyError, False, True, False),
        (RemoteProtocolError, False, False, False),
        (errors.PermissionDeniedError, False, False, True),
    ],
)
def test_error_class_answers_the_three_questions(
    one: type[Exception], ours: bool, again: bool, credentials: bool
) -> None:
    answers = [issubclass(one, kind) for kind in (UsageError, RetryableError, AuthenticationError)]
    assert answers == [ours, again, credentials]
