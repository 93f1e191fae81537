# SPDX-License-Identifier: Apache-2.0
"""How Sphinx builds the documentation (`make docs`): these pages, and the API reference from the docstrings."""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import _docstrings

import bittern

project = "Bittern"
author = "The Bittern authors"
release = bittern.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["_build", "results/*.json"]
html_theme = "furo"
html_title = f"Bittern {release}"
html_show_sourcelink = False
default_role = "code"
suppress_warnings = ["ref.python"]  # the type bytes of an annotation is also the name of fields
autodoc_inherit_docstrings = False

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": True}

ROOT = Path(__file__).parents[1]


def _pages_of_the_repository(app: object, name: str, source: list[str]) -> None:
    """Links that leave this folder (../README.md, ../examples/x.py) become the names of those files."""
    source[0] = re.sub(r"\[([^\]]+)\]\(\.\./([^)#:]+)\)", lambda m: _named(m, name), source[0])


def _named(match: re.Match[str], page: str) -> str:
    target = ROOT / match[2]
    if (ROOT / "docs").joinpath(page).parent != ROOT / "docs":
        return match[0]  # ../ from a folder of the docs stays within them
    if not target.exists():
        raise FileNotFoundError(f"docs: page {page!r} names {match[2]!r}, which does not exist")
    return f"`{match[2]}`" if match[1].strip("`") == match[2] else f"{match[1]} (`{match[2]}`)"


def setup(app: object) -> None:
    app.connect("source-read", _pages_of_the_repository)  # type: ignore[attr-defined]
    app.connect("autodoc-process-docstring", _docstrings.to_restructured_text)  # type: ignore[attr-defined]
