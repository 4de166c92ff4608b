"""The two small extensions of the documentation, without Sphinx."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "docs" / "_ext"


def load(name):
    spec = importlib.util.spec_from_file_location(f"docs_ext_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_public_name_without_a_page_is_found():
    """Modules have a page of their own names, and the version needs none."""
    public = {"pack": ["A", "B", "part", "__version__"], "pack.part": ["f", "g"]}
    documented = {"pack.A", "pack.part.g", "pack.private"}
    assert load("public_names").undocumented(public, documented) == ["pack.B", "pack.part.f"]


def test_nothing_is_found_where_nothing_is_missing():
    """The other side."""
    assert load("public_names").undocumented({"pack": ["A"]}, {"pack.A"}) == []


@pytest.mark.parametrize(
    ("markdown", "rst"),
    [
        ("`None` is absent", "``None`` is absent"),
        ("some `step`s", "some ``step``\\ s"),
        ("``already`` there", "``already`` there"),
        ("`a` and [Goyal](https://x.y/z)", "``a`` and `Goyal <https://x.y/z>`__"),
        ("[`CosineDecay`](https://x.y)", "`CosineDecay <https://x.y>`__"),
        ("Example:\n\n>>> `x`\n\nand `y`", "Example:\n\n>>> `x`\n\nand ``y``"),
        ("over `two\nlines` here", "over ``two\nlines`` here"),
        (
            "  | a | b |\n  |---|---|\n  | `c` | d |",
            "  .. list-table::\n     :header-rows: 1\n  \n"
            "     * - a\n       - b\n     * - ``c``\n       - d",
        ),
    ],
)
def test_markdown_becomes_restructured_text(markdown, rst):
    """What a docstring of this package holds."""
    assert load("markdown_docstrings").to_rst(markdown.split("\n")) == rst.split("\n")
