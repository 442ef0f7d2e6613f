"""Sphinx: how the pages in this folder become the documentation (``make docs``).

Nothing is fetched while building or reading: formulas are MathML, pictures are drawn by
``figures.py`` with the bundled models, and there are no links into other projects' inventories.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "_ext"), str(HERE.parent)]

import captum_ib  # noqa: E402

project = "captum_ib"
author = "The captum_ib contributors"
project_copyright = "2026, The captum_ib contributors"
release = captum_ib.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "docstrings",
    "mathml",
    "matrix",
    "notebooks",
    "pictures",
    "tutorials",
]
exclude_patterns = ["build"]
html_math_renderer = "mathml"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
# What stands beside docs/ and has a page here: links work in the repository and in the pages.
repository_pages = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
}

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80
default_role = "code"  # docstrings set code in single backquotes, too
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"captum_ib {release}"
html_static_path = ["_static"]
html_css_files = ["captum_ib.css"]
html_show_sourcelink = False
html_copy_source = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
