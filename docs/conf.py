"""Settings of the documentation site; `make docs` builds it (scripts/build_docs.py)."""

import attendgen

project = "AttendGen"
author = "The AttendGen developers"
release = attendgen.__version__
root_doc = "docs/index"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
nb_execution_mode = "off"  # the tutorial keeps its outputs: scripts/run_tutorial.py
myst_heading_anchors = 4  # links name headings as on GitHub
default_role = "code"  # docstrings mark code with single backticks
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
autodoc_inherit_docstrings = False
napoleon_custom_sections = [("Shapes", "notes_style")]
napoleon_use_ivar = True
napoleon_attr_annotations = False  # shapes such as "*rows" are no markup
python_maximum_signature_line_length = 100
python_use_unqualified_type_names = True

html_theme = "furo"  # loads nothing from elsewhere
html_title = f"AttendGen {release}"
html_copy_source = False
html_show_sourcelink = False
