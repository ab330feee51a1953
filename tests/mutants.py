"""Mutants: cowmask with one small fault each, drawn at random. The tests must kill them.

python tests/mutants.py --number 300   prints those that survive, and counts; needs cosmic-ray, see `make mutants`

A mutant first meets the tests of its own module. They take under 10 s (`--time`), and those of a kernel under 30 s.
Mutants that survive meet all core tests in the end. Type annotations and what only a GPU runs are not mutated.
"""

import argparse
import ast
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterator
from difflib import unified_diff
from itertools import islice
from pathlib import Path

import pytest
import scipy.ndimage
import scipy.stats  # noqa: F401
import torch  # noqa: F401
from cosmic_ray.commands.init import _all_work_items
from cosmic_ray.mutating import mutate_code, use_mutation
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_item import MutationSpec

PACKAGE = Path("cowmask")
ENGINE = ("masks engines", "test_masks or covariance or similar_sigma or each_row or far_wider or tiny or independent")
TABLES = (
    "masks engines draw_kernel",
    "test_masks or covariance or similar_sigma or each_row or rows_beyond or variance",
)
# Each module's own tests: files, and which of their tests, as pytest's -k takes them, where all take more than 10 s.
OWN = {
    "_backends": ("kernels", "without_triton or says_why"),
    "_checks.arguments": ("arguments batches masks", ""),
    "_checks.batches": ("arguments batches mixing transforms", ""),
    "_checks.networks": ("teacher teacher_updates", ""),
    "_checks.predictions": ("arguments consistency", ""),
    "_draw": ("masks transforms operators", "test_masks or share_of or beta or context"),
    "_engines": ("masks", ""),
    "_engines.basis": TABLES,
    "_engines.coarse": ("masks engines", "test_masks or coarse and (covariance or independent)"),
    "_engines.definition": ENGINE,
    "_engines.direct": ENGINE,
    "_engines.fused": ("fused", "coefficients or memory or blur or names or vary"),
    "_engines.gains": TABLES,
    "_engines.tables": ("tables", ""),
    "_engines.spectral": ("masks draw_kernel", "not same_masks and not chunk and not every_size"),
    "_operators": ("mixing operators", "test_mixing or tagged or fake or differ or eager_one"),
    "_select": ("mix_kernel", "image_before or laid_out or share or stays_out or honoured or short_axes"),
    "_subclasses": ("subclasses", ""),
    "_transform": ("batches transforms", ""),
    "consistency": ("arguments consistency", ""),
    "integrations.kornia": ("integration_kornia", "not compile and not page and not bare"),
    "integrations.torchvision": ("integration_torchvision", "not torchvision_keeps and not compiles"),
    "kernels.boxes": ("fused kernels", "boxes and not size1"),
    "kernels.constants": ("fused", "constants or random123 or exact"),
    "kernels.counters": ("fused", "random123 or uniform or quantiles"),
    "kernels.draw": ("fused draw_kernel kernels", "masks_are_those or covered or without_variance or product_reaches"),
    "kernels.mix": (
        "mix_kernel kernels",
        "size0 or size1 or before or laid_out or share or written or mix_reaches",
    ),
    "kernels.prepare": ("fused kernels", "quantiles or tables or normal or depends or size0-high or prepare_writes"),
    "masks": ("arguments masks", ""),
    "mixing": ("arguments batches mixing transforms", ""),
    "teacher": ("teacher teacher_updates", ""),
    "transforms": ("arguments batches transforms", ""),
}
# Modules without code of their own, and what only a GPU runs.
LEFT_OUT = re.compile(r"__init__|_checks|integrations|kernels(\.tune)?")
# Equal for None, strings and small numbers.
SAME = re.compile("_(Is_Eq|IsNot_NotEq|Eq_Is|NotEq_IsNot)$")
# Lines that only a GPU or an old torch runs, and decorators that tell a type checker something or save time.
NOT_MUTATED = re.compile(r"cuda|apart\(|_MERGES|@(final|lru_cache|cache)\b")
OWN_LIMIT, ALL_LIMIT = 90, 900  # seconds of the processor; tests that take longer have failed


def mutants(only: str, seed: int, start: int, number: int) -> Iterator[MutationSpec]:
    """Yield a mutant of each of `number` places in the code, in random order. What does not compile is left out.

    `only` is a regular expression for the modules to mutate.
    """
    places = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        if not LEFT_OUT.fullmatch(module := _module(path)) and re.fullmatch(only, module):
            if module not in OWN:
                sys.exit(f"tests/mutants.py: name the tests of {module} in OWN")
            lines, annotations = path.read_text().splitlines(), list(_annotations(path))
            for (mutant,) in (item.mutations for item in _all_work_items([path], {})):
                at = mutant.start_pos
                annotates = any(begin <= at < end for begin, end in annotations)
                if not (annotates or SAME.search(mutant.operator_name) or NOT_MUTATED.search(lines[at[0] - 1])):
                    places[path, at].append(mutant)
    order = random.Random(seed).sample(list(places), len(places))
    for place in order[start : start + number]:
        shuffled = random.Random(f"{seed} {place}").sample(places[place], len(places[place]))
        yield from islice(filter(_compiles, shuffled), 1)


def _compiles(mutant: MutationSpec) -> bool:
    operator = get_operator(mutant.operator_name)()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", SyntaxWarning)  # as `is` with a number
            compile(mutate_code(mutant.module_path.read_text(), operator, mutant.occurrence), "mutant", "exec")
    except (SyntaxError, SyntaxWarning):
        return False
    return True


def _module(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def _annotations(path: Path) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield where each type annotation starts and ends, as (line, column)."""
    for node in ast.walk(ast.parse(path.read_text())):
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if part is not None:
                yield (part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)


def passes(files: str, chosen: str, seconds: int) -> bool:
    """Run tests in a fork of this process, which has imported what takes long, and tell whether all pass."""
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        signal.alarm(60 * seconds)  # for those that wait for ever, on however busy a machine
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
        paths = (f"tests/test_{name}.py" for name in files.split())
        status = pytest.main(["-x", "-p", "no:cacheprovider", "-k", chosen, *paths])
        sys.stdout.flush()
        os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def core_tests() -> str:
    """Return the names of the Makefile's CORE."""
    (listed,) = re.findall(r"^CORE := ((?:.*\\\n)*.*)", Path("Makefile").read_text(), re.MULTILINE)
    return listed.replace("\\\n", " ")


def survives(mutant: MutationSpec, files: str, chosen: str, seconds: int) -> list[str]:
    """Return the lines that a mutant changes, or none if the tests kill it."""
    operator = get_operator(mutant.operator_name)()
    with use_mutation(mutant.module_path, operator, mutant.occurrence) as (before, after):
        changes = list(unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm=""))[2:]
        return changes if passes(files, chosen, seconds) else []


def time_own_tests(only: str) -> None:
    """Print how long the own tests of each module take, without a fault."""
    for name, tests in OWN.items():
        if not re.fullmatch(only, name):
            continue
        before = os.times()
        must_pass = passes(*tests, OWN_LIMIT)
        after = os.times()
        seconds = after.children_user + after.children_system - before.children_user - before.children_system
        print(f"{name}: {seconds:.1f} s{'' if must_pass else ', and FAILS'}", flush=True)


def main() -> None:
    """Try a number of mutants, drawn without repetition."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=".*", help="modules to mutate, as a regular expression: 'kernels.*|_draw'")
    parser.add_argument("--seed", type=int, default=0, help="of the random order of all mutants")
    parser.add_argument("--start", type=int, default=0, help="where in this order to begin")
    parser.add_argument("--number", type=int, default=100, help="of places, each with one mutant")
    parser.add_argument("--time", action="store_true", help="time each module's own tests, and try no mutant")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        ignored = shutil.ignore_patterns(".git", ".venv", ".*_cache", "runs", "__pycache__")
        shutil.copytree(Path(__file__).parents[1], copy, ignore=ignored)
        os.chdir(copy)
        sys.path[0] = str(copy)  # the tests import the copied package
        sys.dont_write_bytecode = True  # else a mutant could be taken for the one before
        if arguments.time:
            time_own_tests(arguments.only)
            return
        tried, survivors = 0, []
        for mutant in mutants(arguments.only, arguments.seed, arguments.start, arguments.number):
            tried += 1
            changes = survives(mutant, *OWN[_module(mutant.module_path)], OWN_LIMIT)
            print(f"{tried}. {mutant.module_path}:", *changes or ["killed"], flush=True)
            survivors += [mutant] if changes else []
        print(f"{tried} mutants, of which {len(survivors)} survive their module's tests. Those that survive all:")
        if survivors and not passes(core_tests(), "", ALL_LIMIT):
            sys.exit("tests/mutants.py: the core tests fail without a fault, so they cannot tell who survives")
        n_survive = 0
        for mutant in survivors:
            changes = survives(mutant, core_tests(), "", ALL_LIMIT)
            n_survive += bool(changes)
            if changes:
                print(f"{mutant.module_path}:", *changes, sep="\n", flush=True)
    print(f"{n_survive} of {tried} survive all core tests: {n_survive / tried:.1%}")


if __name__ == "__main__":
    main()
