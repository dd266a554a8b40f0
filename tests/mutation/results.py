"""What is known of mutants from earlier runs, and the table about them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Result:
    """How one mutant fared."""

    module: str
    line: int
    change: list[str]  # "-" and "+" lines
    outcome: str  # "failed" and "timeout": the mutant is killed; "passed": it survived
    source_hash: str  # of the changed module
    tests_hash: str  # of the tests that ran

    @property
    def killed(self) -> bool:
        return self.outcome != "passed"


class Notebook:
    """Results in a file, a line each. One counts while its mutant is the same; a survivor, while its tests are."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self._known = {(r.source_hash, r.killed or r.tests_hash): r for r in (Result(**json.loads(x)) for x in lines)}

    def known(self, source_hash: str, tests_hash: str) -> Result | None:
        return self._known.get((source_hash, True)) or self._known.get((source_hash, tests_hash))

    def add(self, result: Result) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as stream:
            stream.write(json.dumps(asdict(result)) + "\n")


def text_hash(*texts: str) -> str:
    """A short name for texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:24]


def folder_hash(root: Path, paths: Sequence[str]) -> str:
    """A short name for what these files, and all Python files in these folders, say."""
    files = {root / name for name in paths if name.endswith(".py")}
    files.update(file for name in paths for file in (root / name).rglob("*.py"))
    return text_hash(*(file.read_text() for file in sorted(files)))


def table(results: Sequence[Result]) -> str:
    """Per module and in total: mutants, killed, score; then the survivors."""
    count, killed = Counter(r.module for r in results), Counter(r.module for r in results if r.killed)
    width = max(map(len, [*count, "module"]))
    lines = [f"{'module':<{width}}  mutants  killed  score"]
    for module in [*sorted(count), ""]:
        of, dead = (count[module], killed[module]) if module else (len(results), sum(killed.values()))
        score = f"{dead / of:.0%}" if of else "-"
        lines.append(f"{module or 'all':<{width}}  {of:7}  {dead:6}  {score:>5}")
    survivors = defaultdict(list)
    for result in results:
        if not result.killed:
            survivors[result.module].append(result)
    for module in sorted(survivors):
        for result in sorted(survivors[module], key=lambda r: r.line):
            lines += ["", f"src/sam3d_gs/{module}:{result.line} survived", *(f"  {line}" for line in result.change)]
    return "\n".join(lines)
