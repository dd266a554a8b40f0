"""All mutants of a module, made by the operators of cosmic-ray.

At each place in the code every kind of operator gives one mutant: of the eleven replacements for a `+` one is drawn.
Annotations, which nothing evaluates, stay as they are.
"""

from __future__ import annotations

import ast
import difflib
import random
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator, operator_names

from tests.mutation.rooms import LEFT_OUT

Position = tuple[int, int]  # line from 1, column from 0


@dataclass(frozen=True)
class Mutant:
    """One change of one module."""

    module: str  # path below the package
    operator: str  # name of a cosmic-ray operator
    occurrence: int  # which of the places that the operator finds
    line: int

    def code(self, source: str) -> str | None:
        """The module's text with the change; None when that is no Python, or Python that warns of itself."""
        changed = mutate_code(source, get_operator(self.operator)(), self.occurrence)
        assert changed is not None, self
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                compile(changed, self.module, "exec")
            except (SyntaxError, SyntaxWarning):
                return None
        return changed


def mutants_of(module: str, source: str, seed: int) -> list[Mutant]:
    """The mutants of a module with this text, in the order of its lines."""
    kept_out = list(_left_out(ast.parse(source)))
    nodes = list(ast_nodes(get_ast(source)))
    places: dict[tuple[Position, str], list[Mutant]] = defaultdict(list)
    for name in operator_names():
        kind, *change = name.split("_")
        operator_class = get_operator(name)
        if operator_class.arguments():  # these need the names of variables
            continue
        if change[-1:] in (["Is"], ["IsNot"]) and change[0] not in ("Is", "IsNot"):  # equal strings are often identical
            continue
        for occurrence, start in enumerate(_starts(operator_class(), nodes)):
            if not any(first <= start < last for first, last in kept_out):
                places[start, kind].append(Mutant(module, name, occurrence, start[0]))
    return [
        random.Random(f"{seed} {module} {place} {kind}").choice(mutants)
        for (place, kind), mutants in sorted(places.items())
    ]


def diff(source: str, changed: str) -> list[str]:
    """The lines that differ, without context."""
    lines = difflib.unified_diff(source.splitlines(), changed.splitlines(), n=0, lineterm="")
    return [line for line in lines if line[0] in "+-" and not line.startswith(("+++", "---"))]


def _starts(operator: Operator, nodes: list[object]) -> Iterator[Position]:
    for node in nodes:
        for start, _ in operator.mutation_positions(node):
            yield start


def _left_out(tree: ast.Module) -> Iterator[tuple[Position, Position]]:
    """From where to where nothing is changed."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.arg, ast.AnnAssign)) and node.annotation is not None:
            yield _span(node.annotation)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if node.returns is not None:
                yield _span(node.returns)
            if any(_name(decorator) in LEFT_OUT for decorator in node.decorator_list):
                start, end = _span(node)
                yield (min(decorator.lineno for decorator in node.decorator_list), 0), (end[0] + 1, start[1])


def _span(node: ast.expr | ast.stmt) -> tuple[Position, Position]:
    assert node.end_lineno is not None and node.end_col_offset is not None
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)


def _name(decorator: ast.expr) -> str:
    return ast.unparse(decorator.func if isinstance(decorator, ast.Call) else decorator)
