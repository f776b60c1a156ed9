#!/usr/bin/env python
"""Draws the imports between the packages of asynccam, from the code: ``python .ci/import_diagram.py``.

It writes docs/images/imports.svg, and the table between the two marks in docs/architecture.md.
"""

import ast
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "asynccam"
PAGE = ROOT / "docs" / "architecture.md"
PICTURE = ROOT / "docs" / "images" / "imports.svg"
BEGIN, END = "<!-- imports: begin -->", "<!-- imports: end -->"

Graph = dict[str, set[str]]
Node = tuple[str, int]
"""A package and a layer; in a layer that is not the package's own, an arrow passes there."""

WIDTH, ROW, BOX, HEIGHT = 760, 78, 104, 30


def read_imports(package: Path = PACKAGE) -> Graph:
    """Return which packages each package imports, wherever in a file the statement is.

    A module directly in ``asynccam`` counts as a package; ``__init__`` holds the public names.
    """
    known = {path.stem for path in package.glob("*.py")}
    known |= {path.parent.name for path in package.glob("*/__init__.py")}
    graph: Graph = {name: set() for name in known}
    for path in sorted((*package.rglob("*.py"), *package.glob("*.pyi"))):
        parts = path.relative_to(package).with_suffix("").parts
        for target in _targets(ast.parse(path.read_text("utf-8")), (package.name, *parts)):
            name = target[1] if len(target) > 1 and target[1] in known else "__init__"
            if name != parts[0]:
                graph[parts[0]].add(name)
    return graph


def _targets(tree: ast.Module, module: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
    """Yield the dotted names of asynccam that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = module[: -node.level] if node.level else ()
            base = (*above, *(node.module.split(".") if node.module else ()))
            # "from asynccam import errors" imports a module, "from asynccam import Take" a name.
            names = [(*base, alias.name) if len(base) == 1 else base for alias in node.names]
        else:
            continue
        yield from (name for name in names if name[0] == module[0])


def layers_of(graph: Mapping[str, set[str]]) -> dict[str, int]:
    """Return each package's layer: 0 imports nothing, every other is one above the highest it imports."""
    layers: dict[str, int] = {}
    while len(layers) < len(graph):
        ready = [name for name in graph if name not in layers and graph[name] <= layers.keys()]
        if not ready:
            raise ValueError(
                f"packages import each other in a circle: {sorted(graph.keys() - layers.keys())}"
            )
        layers |= {name: max((layers[other] + 1 for other in graph[name]), default=0) for name in ready}
    return layers


def reduced(graph: Mapping[str, set[str]]) -> Graph:
    """Return the imports without those that follow from others."""

    def below(name: str) -> set[str]:
        return set().union(graph[name], *(below(other) for other in graph[name]))

    return {
        name: {other for other in others if not any(other in below(third) for third in others)}
        for name, others in graph.items()
    }


def places_of(graph: Mapping[str, set[str]]) -> tuple[dict[Node, float], list[list[Node]]]:
    """Return the horizontal place of each box and of each arrow that passes a layer, and each arrow's way."""
    layers, ways = layers_of(graph), []
    for name, others in sorted(graph.items()):
        for other in sorted(others):
            passed = [(f"{name}>{other}", layer) for layer in range(layers[name] - 1, layers[other], -1)]
            ways.append([(name, layers[name]), *passed, (other, layers[other])])
    rows: list[list[Node]] = [[] for _ in range(max(layers.values()) + 1)]
    for node in sorted({*layers.items(), *(node for way in ways for node in way)}):
        rows[node[1]].append(node)
    places: dict[Node, float] = {}
    for _ in range(12):  # each time, order every row by the middle of what it is joined to
        for row in (*rows, *reversed(rows)):
            row.sort(key=lambda node: (_middle(node, ways, places), node))
            room = WIDTH / len(row)
            places |= {node: room * (index + 0.5) for index, node in enumerate(row)}
    return places, ways


def _middle(node: Node, ways: Iterable[list[Node]], places: Mapping[Node, float]) -> float:
    joined = [
        places.get(other, WIDTH / 2)
        for way in ways
        for one, two in pairwise(way)
        for this, other in ((one, two), (two, one))
        if this == node
    ]
    return sum(joined) / len(joined) if joined else WIDTH / 2


def picture(graph: Mapping[str, set[str]]) -> str:
    """Return the diagram as SVG; arrows that follow from others are left out."""
    places, ways = places_of(reduced(graph))
    top = max(layer for _, layer in places)
    size = f"{WIDTH} {(top + 1) * ROW}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" font-family="monospace">',
        "<title>Imports between the packages of asynccam</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"',
        'orient="auto"><path d="M0 0L8 4L0 8z" fill="#00796b"/></marker></defs>',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for way in ways:
        points = [(places[node], (top - node[1]) * ROW + ROW / 2) for node in way]
        path = f"M{points[0][0]:.0f} {points[0][1] + HEIGHT / 2:.0f}"
        for (x1, y1), (x2, y2) in pairwise(points):
            begins = y1 + (HEIGHT / 2 if (x1, y1) == points[0] else 0)
            ends = y2 - (HEIGHT / 2 if (x2, y2) == points[-1] else 0)
            bend = (ends - begins) / 2
            path += f"C{x1:.0f} {begins + bend:.0f} {x2:.0f} {ends - bend:.0f} {x2:.0f} {ends:.0f}"
        lines.append(f'<path d="{path}" fill="none" stroke="#00796b" marker-end="url(#tip)"/>')
    for (name, layer), x in sorted(places.items()):
        if name in graph:
            y = (top - layer) * ROW + ROW / 2
            lines.append(
                f'<rect x="{x - BOX / 2:.0f}" y="{y - HEIGHT / 2:.0f}" width="{BOX}" height="{HEIGHT}" rx="4"'
                ' fill="#e8f3f1" stroke="#00796b"/>'
                f'<text x="{x:.0f}" y="{y + 4:.0f}" text-anchor="middle" font-size="13">{name}</text>'
            )
    return "\n".join([*lines, "</svg>", ""])


def table(graph: Mapping[str, set[str]]) -> str:
    """Return the imports as a Markdown table."""
    layers = layers_of(graph)
    names = sorted(graph, key=lambda name: (-layers[name], name))
    rows = ["| layer | package | imports |", "|---|---|---|"]
    for name in names:
        others = ", ".join(f"`{other}`" for other in names if other in graph[name])
        rows.append(f"| {layers[name]} | `{name}` | {others or 'nothing of asynccam'} |")
    return "\n".join(rows)


def page(text: str, graph: Mapping[str, set[str]]) -> str:
    """Return a page with the present table between its marks."""
    return re.sub(
        f"{re.escape(BEGIN)}.*?{re.escape(END)}",
        lambda _: f"{BEGIN}\n\n{table(graph)}\n\n{END}",
        text,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    imports = read_imports()
    PICTURE.write_text(picture(imports), encoding="utf-8")
    PAGE.write_text(page(PAGE.read_text("utf-8"), imports), encoding="utf-8")
