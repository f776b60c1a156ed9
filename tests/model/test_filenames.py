"""A device may call a file anything: its name is made safe, and never that of another file."""

import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asynccam.errors import StorageError
from asynccam.model.filenames import safe_name, unique_path


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("video_1729000000.mp4", "video_1729000000.mp4"),
        ("Über Früh 1.MOV", "Über Früh 1.MOV"),
        ("../loot.txt", "loot.txt"),
        ("../../../../etc/passwd", "passwd"),
        ("/etc/cron.d/evil", "evil"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("C:\\Windows\\a.mp4", "a.mp4"),
        ("C:a.mp4", "C_a.mp4"),
        ("a.mp4:stream", "a.mp4_stream"),
        ("a\0b.mp4", "a_b.mp4"),
        ("a\nb\x1b[31m.mp4", "a_b_[31m.mp4"),
        ("gpj.\u202e4pm", "gpj._4pm"),
        ("a\ud800b", "a_b"),
        ('<a>|"b"?*', "_a___b___"),
        (".bashrc", "bashrc"),
        ("...", "file"),
        (" . . ", "file"),
        ("", "file"),
        ("..", "file"),
        ("/", "file"),
        ("a.mp4. . ", "a.mp4"),
        ("-rf", "_rf"),
        ("con", "_con"),
        ("NUL.mp4", "_NUL.mp4"),
        ("Aux .txt", "_Aux .txt"),
        ("COM1", "_COM1"),
        ("lpt³.log", "_lpt³.log"),
        ("conference.mp4", "conference.mp4"),
        ("com10.mp4", "com10.mp4"),
    ],
)
def test_by_hand(said: str, kept: str) -> None:
    assert safe_name(said) == kept


def test_long_name_keeps_extension() -> None:
    name = safe_name("v" * 300 + ".mp4")
    assert len(name.encode()) == 200
    assert name.endswith("v.mp4")


def test_long_name_is_cut_between_characters() -> None:
    name = safe_name("€" * 100 + ".mp4")
    assert name == "€" * 65 + ".mp4"  # 3 bytes each; 196 are left of 200


def test_overlong_extension_is_not_kept() -> None:
    name = safe_name("a." + "x" * 300)
    assert name == "a." + "x" * 198


def test_cut_name_has_no_trailing_blank() -> None:
    assert safe_name("a" * 199 + " b") == "a" * 199


def test_fallback_is_made_safe() -> None:
    assert safe_name("..", fallback="video") == "video"
    assert safe_name("..", fallback="../../x") == "x"
    assert safe_name("..", fallback="..") == "file"


@given(st.text(max_size=400))
@example("a" * 195 + ". .mp4")
@example("-" * 300)
@example("e\u0301" * 120 + ".mp4")
def test_safe_name_is_one_harmless_component(said: str) -> None:
    name = safe_name(said)
    assert name == safe_name(name), "what is safe stays as it is"
    assert 0 < len(name.encode()) <= 200
    assert PurePosixPath(name).parts == (name,)
    assert PureWindowsPath(name).parts == (name,)
    assert name[0] not in ".- "
    assert name[-1] not in ". "
    assert not any(unicodedata.category(character) in {"Cc", "Cf", "Cs"} for character in name)
    assert name.split(".", maxsplit=1)[0].rstrip().casefold() not in {
        "con",
        "prn",
        "aux",
        "nul",
        "com1",
        "lpt9",
    }


@given(st.text(max_size=400))
def test_safe_name_can_be_created_in_its_directory(
    tmp_path_factory: pytest.TempPathFactory, said: str
) -> None:
    directory = tmp_path_factory.getbasetemp() / "names"
    directory.mkdir(exist_ok=True)
    path = directory / f"{safe_name(said)}.part"
    path.touch()
    assert [Path(path).name] == [entry.name for entry in directory.iterdir()]
    path.unlink()


def make(path: Path) -> None:
    path.touch(exist_ok=False)


def test_unique_path_is_first_free_one(tmp_path: Path) -> None:
    made = [unique_path(tmp_path / "a.tar.mp4", make).name for _ in range(3)]
    assert made == ["a.tar.mp4", "a.tar-1.mp4", "a.tar-2.mp4"]
    (tmp_path / "a.tar-3.mp4").symlink_to("nowhere")
    assert unique_path(tmp_path / "a.tar.mp4", make).name == "a.tar-4.mp4"


@pytest.mark.parametrize(("suffix", "name"), [("", "2024.05-1"), (".05", "2024-1.05"), (None, "2024-1.05")])
def test_number_goes_before_suffix(suffix: str | None, name: str, tmp_path: Path) -> None:
    (tmp_path / "2024.05").touch()
    assert unique_path(tmp_path / "2024.05", make, suffix=suffix).name == name


def test_unique_path_gives_up_after_many_names(tmp_path: Path) -> None:
    tried: list[Path] = []

    def refuse(path: Path) -> None:
        tried.append(path)
        raise FileExistsError(path)

    with pytest.raises(StorageError, match=r"no name is free for .*a\.mp4: .* up to 99999 are taken"):
        unique_path(tmp_path / "a.mp4", refuse)
    assert (len(tried), tried[-1].name) == (100_000, "a-99999.mp4")


def test_other_errors_of_a_claim_are_raised(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        unique_path(tmp_path / "missing" / "a", make)
