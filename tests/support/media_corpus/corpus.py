"""The files of the corpus with both answers, ready to be compared."""

import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from asynccam.recording import FileVerdict, verify_file
from tests.support.media_corpus.cache import base_bytes
from tests.support.media_corpus.expectations import Case
from tests.support.media_corpus.mutations import Kind, mutations_of, unit_ends, without_cut_box
from tests.support.media_corpus.probe import Probe, packets, probe
from tests.support.media_corpus.recipes import MP4, RECIPES, Recipe

_AT_ONCE: Final = 2
"""Probes that run side by side."""


def decodable(recipe: Recipe, data: bytes) -> int:
    """Frames that decode of a cut file, also where ffmpeg refuses the file for its last box."""
    contents = [data]
    if recipe.container == MP4:
        contents.append(without_cut_box(data))
    return max(answer.frames for answer in probe_all(recipe, contents))


def probe_all(recipe: Recipe, contents: Iterable[bytes]) -> list[Probe]:
    """Ask ffprobe about several contents of a recipe's file."""
    ending = Path(recipe.name).suffix
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda data: probe(data, ending), contents))


async def verify_bytes(recipe: Recipe, data: bytes) -> FileVerdict:
    """The verdict on a recipe's file with another content."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / recipe.name
        path.write_bytes(data)
        return await verify_file(path)


async def cases_of(recipe: Recipe, *, every: int = 1) -> list[Case]:
    """Mutations of a recipe's file, the good file first, judged by asynccam and ffprobe.

    Args:
        recipe: Of the good file.
        every: Take one mutation in so many; which ones differs from recipe to recipe.
    """
    good = base_bytes(recipe.name)
    whole, *others = mutations_of(recipe, good)
    mutations = [whole, *others[list(RECIPES).index(recipe.name) % every :: every]]
    contents = [mutation.apply(good) for mutation in mutations]
    probes = probe_all(recipe, contents)
    ends = unit_ends(recipe, good)
    places = packets(good, Path(recipe.name).suffix)
    return [
        Case(
            recipe,
            mutation,
            whole=probes[0],
            probe=answer,
            verdict=await verify_bytes(recipe, data),
            may_end_here=len(data) in ends,
            decodable=decodable(recipe, data) if mutation.kind is Kind.CUT else answer.frames,
            untouched=sum(good[at : at + size] == data[at : at + size] for at, size in places),
        )
        for mutation, data, answer in zip(mutations, contents, probes, strict=True)
    ]
