"""Sphinx reads this. It works offline: nothing is fetched from elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from keras_callbacks_plus import __version__

project = "keras-callbacks-plus"
author = "the authors of keras-callbacks-plus"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "command_help",
    "public_names",
    "markdown_docstrings",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"keras-callbacks-plus {release}"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # types stand in words in `Args:`, as in Keras's own documentation
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# Each public name of these modules has to stand on some page; see _ext/public_names.py.
public_modules = [
    "keras_callbacks_plus",
    "keras_callbacks_plus.errors",
    "keras_callbacks_plus.policies",
    "keras_callbacks_plus.schedules",
]

# Nitpicky (-n), and other projects' names cannot be looked up offline.
nitpick_ignore_regex = [
    (r"py:.*", r"(abc|argparse|collections|dataclasses|enum|keras|matplotlib|numpy|typing)\..*"),
    (r"py:.*", r"(ABC|Enum|Protocol|Exception|Warning|UserWarning)"),
]
