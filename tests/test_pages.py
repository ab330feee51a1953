"""Every Python block of every page runs.

A page whose blocks need few names has a line in `NAMES`. The blocks of other pages are run by the tests in `ELSEWHERE`.
"""

import ast
from collections.abc import Callable
from typing import Any

import pytest
import torch

import cowmask
import minimal
from tests.pages import PAGES, ROOT, blocks, run

Names = dict[str, Any]


def readme() -> Names:
    """Return what README's blocks take for granted."""
    generator = torch.Generator().manual_seed(0)
    (x, y), (x_unlabelled, _) = (minimal.draw_shapes(4, generator) for _ in range(2))
    student = minimal.make_network()
    return {
        "student": student,
        "optimizer": torch.optim.Adam(student.parameters()),
        "batches": [(x, y, x_unlabelled)],
    }


def loop() -> Names:
    """Return what the mean teacher's loop takes for granted, and those who only use its teacher."""
    names = readme()
    teacher = cowmask.MeanTeacher(names["student"])
    return {
        "student": names["student"],
        "optimizer": names["optimizer"],
        "loader": names["batches"],
        "teacher": teacher,
        "images": names["batches"][0][0],
    }


# What each page takes for granted.
NAMES: dict[str, Callable[[], Names]] = {
    "README.md": readme,
    "docs/faq.md": lambda: loop() | {"torch": torch},
    "docs/index.md": dict,
    "docs/loop.md": loop,
    "docs/start.md": dict,
    "docs/torchvision.md": dict,
}
ELSEWHERE = {
    "docs/classification.md": "test_train_classification.py",
    "docs/kornia.md": "test_integration_kornia.py",
    "docs/own-pictures.md": "test_folder.py",
    "docs/porting.md": "test_docs.py",
    "docs/recipes.md": "test_recipes.py",
    "docs/volumes.md": "test_volumes.py",
}
WITH_CODE = [page for page in PAGES if blocks(page)]


@pytest.mark.parametrize("page", WITH_CODE)
def test_every_block_runs(page: str) -> None:
    if page in ELSEWHERE:
        assert page in (ROOT / "tests" / ELSEWHERE[page]).read_text()
    else:
        run(page, NAMES[page]())


@pytest.mark.parametrize("page", WITH_CODE)
def test_blocks_import_public_names(page: str) -> None:
    for block in blocks(page):
        for node in ast.walk(ast.parse(block.code)):
            if isinstance(node, ast.ImportFrom) and node.module == "cowmask":
                assert {alias.name for alias in node.names} <= set(cowmask.__all__)
            elif isinstance(node, ast.ImportFrom):
                assert not str(node.module).startswith("cowmask.") or str(node.module).startswith(
                    "cowmask.integrations"
                )
            elif isinstance(node, ast.Import):
                assert not any(alias.name.startswith("cowmask.") for alias in node.names)


@pytest.mark.parametrize("page", PAGES)
def test_the_site_hides_no_line(page: str) -> None:
    """MyST takes a line that begins with % for a comment."""
    assert not [line for line in (ROOT / page).read_text().splitlines() if line.startswith("%")]
