import sys
from pathlib import Path

from causalms import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "causalms"
copyright = "2026, the causalms developers"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "committed_results"]
myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
html_theme = "pydata_sphinx_theme"
html_static_path = []
html_theme_options = {"show_prev_next": False}
autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
suppress_warnings = ["myst.xref_missing", "autosummary.import_cycle"]
