"""The Python blocks of the pages, run as a reader runs them: in order, in one namespace."""

from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    str(page.relative_to(ROOT))
    for folder in (ROOT, ROOT / "docs", ROOT / "docs/results", ROOT / "benchmarks")
    for page in folder.glob("*.md")
)


class Block(NamedTuple):
    """A block of Python in a page."""

    section: str  # the heading that it stands under, of the second level or below; "" above the first
    line: int  # of the page, where its code begins
    code: str


def blocks(page: str) -> list[Block]:
    """Return the Python blocks of a page, which is named by its path in the repository."""
    found, section, fence, start = [], "", "", 0
    lines = (ROOT / page).read_text().splitlines(keepends=True)
    for number, line in enumerate(lines):
        if line.startswith("```"):
            if fence == "```python":
                found.append(Block(section, start + 1, "".join(lines[start:number])))
            fence, start = ("" if fence else line.strip()), number + 1
        elif not fence and line.startswith("##"):
            section = line.strip("# \n")
    return found


def run(page: str, names: dict[str, Any], *sections: str) -> dict[str, Any]:
    """Run a page's blocks, all or those above the first section and those of `sections`, and return their names.

    Args:
        page: The page's path in the repository.
        names: What the blocks take for granted.
        sections: Headings. Without any, all blocks run.
    """
    chosen = [block for block in blocks(page) if not sections or block.section in ("", *sections)]
    assert {block.section for block in chosen} >= set(sections), f"{page} has no code under {sections}"
    names.setdefault("__name__", page)
    for block in chosen:
        source = "\n" * (block.line - 1) + block.code  # so that errors name the page's line
        exec(compile(source, str(ROOT / page), "exec"), names)
    return names
