"""What pyproject.toml declares, against what the code imports, and what pages and docstrings tell to install."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest
import yaml

from tests.pages import PAGES, ROOT, blocks

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
DISTRIBUTIONS = packages_distributions()

# The extras that bring what a file, or the files of a folder, import.
NEEDS: dict[str, set[str]] = {
    "cowmask": set(),
    "cowmask/integrations/kornia.py": {"kornia"},
    "cowmask/integrations/torchvision.py": {"torchvision"},
    "examples": {"examples"},
    "examples/minimal.py": set(),
    "benchmarks": {"examples"},
    "benchmarks/gpu.py": {"examples", "test"},
    "benchmarks/compare": {"compare"},
    "docs": {"docs"},
    "tests": {"dev"},
    "tests/reference.py": {"examples"},  # benchmarks import it
}
NOT_DECLARED = {
    "triton",  # torch brings it
    "implementations",  # a clone of FMix, which docs/compare.md tells to make
    "cityscapesscripts",  # the Makefile installs it, without its dependencies
    "cosmic-ray",  # `make mutants` installs it
}
FILES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for folder in ("cowmask", "examples", "benchmarks", "docs", "tests")
    for path in (ROOT / folder).rglob("*.py")
    if "_build" not in path.parts
}
COMMANDS = [file for file, source in FILES.items() if "__main__" in source and not file.startswith("tests/")]
ADAPTERS = [file for file in FILES if re.fullmatch(r"cowmask/integrations/[a-z]+\.py", file)]
TOPS = [path for folder in (ROOT, ROOT / "examples", ROOT / "docs") for path in folder.iterdir()]
OURS = {path.stem for path in TOPS if path.is_dir() or path.suffix == ".py"}


def normal(distribution: str) -> str:
    """Return a distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def declared(extras: set[str]) -> set[str]:
    """Return the distributions that extras name, and those of the package itself."""
    found = set()
    for requirement in [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]:
        if ours := re.fullmatch(r"cowmask\[(.+)\]", requirement):
            found |= declared(set(ours[1].split(",")))
        else:
            found.add(normal(re.split(r"[<>=!~; ]", requirement)[0]))
    return found


def imported(source: str) -> set[str]:
    """Return the distributions of other projects that a source imports, or skips a test for the lack of."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.importorskip":
            names |= {str(argument.value) for argument in node.args if isinstance(argument, ast.Constant)}
    roots = {name.split(".")[0] for name in names} - OURS - set(sys.stdlib_module_names)
    return {normal(DISTRIBUTIONS.get(root, [root])[0]) for root in roots}


def needed(file: str) -> set[str]:
    """Return the extras that a file needs, by the longest path in NEEDS that leads to it."""
    return NEEDS[max((path for path in NEEDS if f"{file}/".startswith(f"{path}/")), key=len)]


def told(text: str) -> set[str]:
    """Return the extras that a text tells to install, in a clone."""
    return {extra for extras in re.findall(r'pip install\s"\.\[(.+?)\]"', text) for extra in extras.split(",")}


@pytest.mark.parametrize("file", FILES)
def test_what_a_file_imports_is_declared(file: str) -> None:
    assert imported(FILES[file]) - NOT_DECLARED <= declared(needed(file))


@pytest.mark.parametrize("file", COMMANDS + ADAPTERS)
def test_a_docstring_says_what_to_install(file: str) -> None:
    assert told(ast.get_docstring(ast.parse(FILES[file])) or "") == needed(file)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_says_what_to_install(page: str) -> None:
    text = (ROOT / page).read_text()
    assert not re.search(r"pip install\s[\"']?cowmask", text), "cowmask is in no index"
    needs = set().union(*(imported(block.code) for block in blocks(page)))
    assert needs <= declared(told(text))


def test_ci_runs_the_oldest_and_the_newest_torch() -> None:
    (job,) = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"].values()
    rows, (oldest,) = job["strategy"]["matrix"]["include"], PROJECT["dependencies"]
    version = oldest.removeprefix("torch>=")
    assert [row["torch"] for row in rows] == [f"=={version}.*", f">={version}"]
    assert rows[0]["python"] == PROJECT["requires-python"].removeprefix(">=")
    tried = {line.rpartition(" ")[2] for line in PROJECT["classifiers"] if line.startswith("Programming Language")}
    assert {row["python"] for row in rows} == tried
    assert job["steps"][-1]["run"] in (ROOT / ".ci/run").read_text().splitlines()
