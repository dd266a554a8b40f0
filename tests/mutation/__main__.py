"""Change the package, one small change at a time, and see whether a test fails. `bash run_tests.sh --mutation` runs it.

Prints, for each module, how many of its mutants the tests killed, and every survivor. The working tree is not touched:
mutants live in a copy. A run that was stopped, or that asks for more, starts from the results in .cache/mutation.
"""

from __future__ import annotations

import argparse
import queue
import random
import sys
import threading
import time
from collections.abc import Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from tests.mutation import known_mutants
from tests.mutation.results import Notebook, Result, folder_hash, table, text_hash
from tests.mutation.rooms import LEFT_OUT, PACKAGE, modules, relevant_tests
from tests.mutation.trial import Copy

if TYPE_CHECKING:  # needs cosmic-ray
    from tests.mutation.mutants import Mutant

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / ".cache/mutation/results.jsonl"
LEAST_TIMEOUT_S, TIMES_AS_LONG = 60.0, 6.0  # a mutant's tests may take so many times as long as without it


def main() -> int:
    options = _options()
    if options.known:
        return known_mutants.check(ROOT)
    from tests.mutation.mutants import mutants_of

    chosen = modules(ROOT, options.modules)
    if not chosen:
        print(f"no module matches {' '.join(options.modules)}", file=sys.stderr)
        return 2
    sources = {module: (ROOT / PACKAGE / module).read_text() for module in chosen}
    everything = [mutant for module in chosen for mutant in mutants_of(module, sources[module], options.seed)]
    random.Random(options.seed).shuffle(everything)  # so that a larger sample holds the smaller ones
    mutants = ((mutant, code) for mutant in everything if (code := mutant.code(sources[mutant.module])))
    wanted = list(islice(mutants, options.sample))
    print(f"{len(wanted)} of about {len(everything)} mutants, in {len(chosen)} modules", file=sys.stderr)
    results = Trials(sources, Notebook(NOTEBOOK)).run(wanted, options.jobs)
    print(table(results))
    print("\n".join(f"\nNot mutated: functions under @{name}. {reason}" for name, reason in LEFT_OUT.items()))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run_tests.sh --mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", help="parts of names, e.g. stages/ gaussians/pose.py; default: all")
    parser.add_argument("--sample", type=int, metavar="N", help="only N mutants, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the sample and of the choice among replacements")
    parser.add_argument("--jobs", type=int, default=2, help="mutants tried at the same time, each in its own copy")
    parser.add_argument("--known", action="store_true", help="instead: the mutants that people wrote, one by one")
    return parser.parse_args()


class Trials:
    """Tries mutants, some at a time."""

    def __init__(self, sources: dict[str, str], notebook: Notebook) -> None:
        self._sources, self._notebook = sources, notebook
        self._tests = {module: relevant_tests(ROOT, module) for module in sources}
        self._tests_hash = {module: folder_hash(ROOT, [*chain(*steps)]) for module, steps in self._tests.items()}
        self._seconds: dict[tuple[str, ...], float] = {}  # how long the tests take without a mutant
        self._lock = threading.Lock()

    def run(self, wanted: Sequence[tuple[Mutant, str]], jobs: int) -> list[Result]:
        """A result for each mutant, given with its code; only of those that were tried, when the run is interrupted."""
        results: list[Result] = []
        waiting: queue.SimpleQueue[tuple[Mutant, str]] = queue.SimpleQueue()
        for mutant, changed in wanted:
            known = self._notebook.known(text_hash(changed), self._tests_hash[mutant.module])
            if known:
                results.append(known)
            else:
                waiting.put((mutant, changed))
        print(f"{len(results)} are known from earlier runs", file=sys.stderr)
        errors: list[BaseException] = []
        stop = threading.Event()

        def work() -> None:
            try:
                with Copy(ROOT) as copy:
                    while not stop.is_set():
                        result = self._try(copy, *waiting.get_nowait())
                        with self._lock:
                            self._notebook.add(result)
                            results.append(result)
                            killed = sum(r.killed for r in results)
                            print(f"{len(results)}/{len(wanted)}, {killed} killed", end="\r", file=sys.stderr)
            except queue.Empty:
                pass
            except BaseException as error:
                errors.append(error)
                stop.set()

        threads = [threading.Thread(target=work) for _ in range(min(jobs, waiting.qsize()))]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                time.sleep(0.2)
        except KeyboardInterrupt:
            stop.set()
            print("\nending the trials at work; what is done is kept", file=sys.stderr)
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return results

    def _try(self, copy: Copy, mutant: Mutant, changed: str) -> Result:
        from tests.mutation.mutants import diff

        module, source = mutant.module, self._sources[mutant.module]
        outcome = "passed"
        for tests in self._tests[module]:
            timeout_s = max(LEAST_TIMEOUT_S, TIMES_AS_LONG * self._without_mutant_s(copy, tests))
            with copy.changed(str(PACKAGE / module), changed):
                outcome = copy.run(tests, timeout_s)
            if outcome != "passed":
                break
        change = diff(source, changed)
        return Result(module, mutant.line, change, outcome, text_hash(changed), self._tests_hash[module])

    def _without_mutant_s(self, copy: Copy, tests: Sequence[str]) -> float:
        """How long the tests take when nothing is changed. Raises RuntimeError when they do not pass."""
        with self._lock:
            if tuple(tests) not in self._seconds:
                started_s = time.perf_counter()
                if copy.run(tests, 1800) != "passed":
                    raise RuntimeError(f"tests fail without a mutant: {' '.join(tests)}\n{copy.log()}")
                self._seconds[tuple(tests)] = time.perf_counter() - started_s
            return self._seconds[tuple(tests)]


if __name__ == "__main__":
    sys.exit(main())
