"""How `make docs` builds the site. Sphinx reads this file."""

import re
import shutil
import sys
from pathlib import Path

import jupytext
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

import gallery  # noqa: E402

import cowmask  # noqa: E402

project = "cowmask"
author = "The cowmask maintainers"
version = release = cowmask.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "sphinx_design"]
exclude_patterns = ["_build", "play"]
highlight_language = "none"  # of blocks that name no language

html_theme = "furo"
html_title = f"cowmask {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = html_show_copyright = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b6b5f", "color-brand-content": "#0b6b5f"},
    "dark_css_variables": {"color-brand-primary": "#5ccab8", "color-brand-content": "#5ccab8"},
}

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
copybutton_prompt_text = ">>> "

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80
napoleon_use_param = False  # "aspect, n_boxes, clip" stay together
napoleon_custom_sections = ["Convention", "Reference"]
default_role = "py:obj"  # of backticks in docstrings: a link where the name is known, else code

# Pages outside of this folder, and those of the site that stand for them.
ELSEWHERE = {
    "../README.md": "index.md",
    "../CHANGELOG.md": "changelog.md",
    "../CONTRIBUTING.md": "contributing.md",
    "../benchmarks/README.md": "benchmarks.md",
}


def stay_in_the_site(_: Sphinx, docname: str, source: list[str]) -> None:
    """Lead links to pages outside of this folder to the site's own, and those to folders nowhere.

    Links to other files become downloads.
    """
    folder, up = (DOCS / docname).parent, "../" * docname.count("/")
    for outside, inside in ELSEWHERE.items():
        source[0] = source[0].replace(f"]({up}{outside}", f"]({up}{inside}")
    link = re.compile(r"\[([^\]]+)\]\((\.\./[^)#]+)\)")
    source[0] = link.sub(lambda found: found[1] if (folder / found[2]).is_dir() else found[0], source[0])


def mark_up(_: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:  # noqa: ARG001
    """Mark what docstrings leave unmarked: formulas, which are indented, and the star of `*size`."""
    marked: list[str] = []
    for line in lines:
        follows_text = len(marked) > 1 and not marked[-1] and marked[-2][:1] not in ("", " ")
        if line.startswith("    ") and follows_text:
            marked += ["::", ""]
        marked.append(re.sub(r"\*(?=size)", r"\\*", line))
    lines[:] = marked


class InlineDrawings(SphinxPostTransform):
    """Put the drawings into the page itself, where they take the colours of the theme."""

    default_priority = 5  # before images are collected
    formats = ("html",)

    def run(self, **_: object) -> None:
        """Replace images of drawings by their SVG."""
        for image in list(self.document.findall(nodes.image)):
            if image["uri"].startswith("drawings/"):
                image.replace_self(nodes.raw("", (DOCS / image["uri"]).read_text(), format="html"))


def add_files(app: Sphinx, error: Exception | None) -> None:
    """Add the page to play with, and the start page as a notebook.

    `html_extra_path` would copy what is in the folder `play`, and so replace the first page.
    """
    if error is None:
        shutil.copytree(DOCS / "play", app.outdir / "play", dirs_exist_ok=True)
        jupytext.write(jupytext.read(DOCS / "start.md"), str(app.outdir / "start.ipynb"))


def setup(app: Sphinx) -> None:
    """Connect the functions above."""
    app.connect("builder-inited", lambda _: gallery.main(DOCS / "_build" / "pictures"))
    app.connect("build-finished", add_files)
    app.connect("source-read", stay_in_the_site)
    app.connect("autodoc-process-docstring", mark_up, priority=400)  # before napoleon
    app.add_post_transform(InlineDrawings)
