"""Verdicts on several hundred files, held against what ffprobe decodes. See tests/support/media_corpus."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asynccam.recording import Verdict
from tests.support.media_corpus.cache import base_bytes
from tests.support.media_corpus.corpus import cases_of, decodable, probe_all, verify_bytes
from tests.support.media_corpus.expectations import agrees, difference
from tests.support.media_corpus.mutations import mutations_of, unit_ends
from tests.support.media_corpus.recipes import BASES, JPEG, RECIPES, Recipe

CONTAINERS = sorted({recipe.container for recipe in BASES})
PARTS = 10**6


@pytest.mark.parametrize("recipe", BASES, ids=str)
async def test_verdicts_match_ffprobe(recipe: Recipe) -> None:
    # A fifth of them here; all by `python -m benchmarks.verdicts`.
    cases = await cases_of(recipe, every=5)
    assert [str(case) for case in cases if not agrees(case) and difference(case) is None] == []


@pytest.mark.parametrize("recipe", BASES, ids=str)
def test_corpus_good_files_are_good(recipe: Recipe) -> None:
    (whole,) = probe_all(recipe, [base_bytes(recipe.name)])
    assert whole.frames == recipe.frames


def test_corpus_has_several_hundred_files() -> None:
    assert sum(len(mutations_of(recipe, base_bytes(recipe.name))) for recipe in BASES) > 500


SEARCH = settings(
    derandomize=True,
    max_examples=8,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def claims_too_much(recipe: Recipe, data: bytes, *, may_end_here: bool) -> str:
    """Return what a verdict on a spoiled file says that is not so, or ``""``."""
    verdict = asyncio.run(verify_bytes(recipe, data))
    decoded = decodable(recipe, data)
    if verdict.verdict is Verdict.COMPLETE and not may_end_here:
        return f"complete, {decoded} frames decode"
    if verdict.frames is not None and verdict.frames > decoded:
        return f"{verdict.frames} frames, {decoded} decode ({verdict.detail})"
    return ""


@pytest.mark.parametrize("container", CONTAINERS)
def test_file_with_end_cut_off_is_never_complete(container: str) -> None:
    names = [one.name for one in BASES if one.container == container]

    @SEARCH
    @given(st.sampled_from(names), st.integers(1, PARTS - 1))
    def search(name: str, part: int) -> None:
        good = base_bytes(name)
        end = max(1, len(good) * part // PARTS)
        may_end_here = end in unit_ends(RECIPES[name], good)
        claim = claims_too_much(RECIPES[name], good[:end], may_end_here=may_end_here)
        assert claim == "", f"{name}, {end} bytes of {len(good)}"

    search()


@pytest.mark.parametrize("container", [one for one in CONTAINERS if one != JPEG])
def test_file_without_a_stretch_is_never_complete(container: str) -> None:
    # Nothing numbers the blocks of a live Matroska file, so that one less is not missed. Nor are those of a
    # JPEG numbered: its codes fall into step again, and now and then as many blocks as before come out.
    names = [one.name for one in BASES if one.container == container and "live" not in one.name]

    @SEARCH
    @given(
        st.sampled_from(names),
        st.integers(PARTS // 10, PARTS * 6 // 10),
        st.integers(PARTS // 50, PARTS * 3 // 10),
    )
    def search(name: str, begin: int, length: int) -> None:
        good = base_bytes(name)
        first, last = (len(good) * part // PARTS for part in (begin, begin + length))
        verdict = asyncio.run(verify_bytes(RECIPES[name], good[:first] + good[last:]))
        assert verdict.verdict is not Verdict.COMPLETE, f"{name} without its bytes {first} to {last}"

    search()
