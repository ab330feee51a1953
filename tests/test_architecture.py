"""The arrows between the modules, and what importing the package loads."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cowmask

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cowmask"

# Each module, and the modules that it may import. A module that is not listed is an error.
ARROWS: dict[str, set[str]] = {
    "_operators": set(),
    "_backends": set(),
    "kernels": set(),
    "kernels.counters": set(),
    "kernels.prepare": {"kernels.counters"},
    "kernels.draw": {"kernels.prepare"},
    "kernels.tune": {"kernels.draw", "kernels.prepare", "kernels"},
    "kernels.boxes": {"kernels.counters"},
    "kernels.constants": {"kernels.counters"},
    "kernels.mix": set(),
    "_checks": set(),
    "_subclasses": set(),
    "_checks.arguments": {"_operators", "_subclasses"},
    "_checks.batches": {"_checks.arguments", "_operators", "_subclasses"},
    "_checks.predictions": {"_checks.arguments", "_subclasses"},
    "_engines.definition": set(),
    "_engines.tables": set(),
    "_engines.basis": {"_engines.tables"},
    "_engines.gains": {"_engines.basis", "_engines.definition", "_engines.tables"},
    "_engines.direct": {"_engines.definition"},
    "_engines.coarse": {"_engines.definition", "_engines.tables"},
    "_engines.spectral": {"_engines.basis", "_engines.definition", "_engines.gains", "kernels.draw"},
    "_engines.fused": {"_engines.gains", "_engines.spectral", "kernels.draw", "kernels.prepare"},
    "_engines": {
        *("_engines.coarse", "_engines.definition", "_engines.direct", "_engines.fused", "_engines.gains"),
        "_engines.spectral",
    },
    "_draw": {
        *("_backends", "_checks.arguments", "_operators", "_engines"),
        *("_engines.coarse", "_engines.definition", "_engines.direct", "_engines.fused", "_engines.spectral"),
        *("kernels.boxes", "kernels.constants"),
    },
    "_select": {"_backends", "_operators", "kernels.mix"},
    "masks": {"_backends", "_checks.arguments", "_draw", "_operators"},
    "mixing": {"_backends", "_checks.arguments", "_checks.batches", "_operators", "_select", "_subclasses"},
    "_transform": {"_checks.arguments", "_checks.batches", "_operators", "_subclasses", "masks", "mixing"},
    "transforms": {"_checks.arguments", "_transform", "masks"},
    "consistency": {"_checks.arguments", "_checks.predictions"},
    "_checks.networks": {"_checks.arguments"},
    "teacher": {"_checks.arguments", "_checks.networks"},
    "integrations": set(),
    "integrations.kornia": {"_checks.arguments", "mixing", "transforms"},
    "integrations.torchvision": {"transforms"},
    "__init__": {"consistency", "masks", "mixing", "teacher", "transforms"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))
RANDOM = {
    "rand",
    "rand_like",
    "randn",
    "randn_like",
    "randint",
    "randperm",
    "normal",
    "bernoulli",
    "multinomial",
    "_standard_gamma",
    "uniform_",
    "normal_",
    "random_",
    "exponential_",
}


def imports(path: Path) -> set[str]:
    """Return the full names of all that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def module(path: Path) -> str:
    """Return the name of a module without the package's, as "kernels.draw"; that of a folder is the folder's."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def modules_of_ours(path: Path) -> set[str]:
    """Return the modules of the package that a file imports, or imports from."""
    known, found = {module(other) for other in MODULES}, set()
    for name in imports(path):
        if name.startswith("cowmask."):
            ours = name.removeprefix("cowmask.")
            found.add(ours if ours in known else ours.rpartition(".")[0])
    return found


every_module = pytest.mark.parametrize("path", MODULES, ids=module)


@every_module
def test_imports_run_one_way(path: Path) -> None:
    assert modules_of_ours(path) <= ARROWS[module(path)]


@every_module
def test_the_package_depends_on_torch_alone(path: Path) -> None:
    allowed = set(sys.stdlib_module_names) | {"torch", "cowmask"}
    if module(path) == "_backends" or path.parent.name == "kernels":
        allowed.add("triton")  # imported only if it is there
    if path.parent.name == "integrations":
        allowed |= {path.stem, "PIL"}  # the library that it is for, and what torchvision needs
    assert {name.split(".")[0] for name in imports(path)} <= allowed


@every_module
def test_one_file_draws(path: Path) -> None:
    names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert module(path) == "_draw" or not names & RANDOM


@pytest.mark.parametrize("folder", ["examples", "benchmarks"])
def test_examples_and_benchmarks_use_public_names(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        for name in imports(path):
            if name.startswith("cowmask"):
                public = {f"cowmask.{one}" for one in (*cowmask.__all__, "__version__")}
                assert name in public, f"{path.name} imports {name}"


def test_eleven_names() -> None:
    assert len(cowmask.__all__) == 11
    assert sorted(cowmask.__all__) == cowmask.__all__
    assert all(hasattr(cowmask, name) for name in cowmask.__all__)


def test_the_changelog_begins_with_this_version() -> None:
    versions = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == cowmask.__version__


PAGES = [
    page for folder in (ROOT, ROOT / "docs", ROOT / "docs/results", ROOT / "benchmarks") for page in folder.glob("*.md")
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target, heading in re.findall(r"\]\((?!\w+:)([^)#\s]*)#?([^)\s]*)\)", page.read_text()):
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{target} does not exist"
        if heading:
            titles = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}, heading


def test_import_loads_torch_and_nothing_else() -> None:
    code = "import sys, torch; before = set(sys.modules); import cowmask; print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in loaded if not name.startswith("cowmask")] == []


def packages_of(path: Path) -> set[str]:
    """Return the packages that a test, or a module of `tests` that it imports, imports."""
    found = {name.split(".")[0] for name in imports(path)}
    shared = {path.with_name(f"{name.split('.')[1]}.py") for name in imports(path) if name.startswith("tests.")}
    return found.union(*(packages_of(other) for other in shared - {path} if other.is_file()))


def test_make_check_runs_all_tests_of_the_package() -> None:
    examples = {path.stem for path in (ROOT / "examples").iterdir()}
    others = examples | {"benchmarks", "kornia", "playwright", "torchvision"}
    tests = {path: packages_of(path) for path in (ROOT / "tests").glob("test_*.py")}
    core = re.search(r"^CORE := (.*(?:(?<=\\)\n.*)*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert core is not None
    listed = core[1].replace("\\", " ").split()
    assert listed == sorted(path.stem.removeprefix("test_") for path, names in tests.items() if not names & others)
