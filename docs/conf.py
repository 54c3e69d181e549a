import sys
from pathlib import Path

from causalms import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "causalms"
copyright = "2026, the causalms developers"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "committed_results", "public_names"]
myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
html_theme = "pydata_sphinx_theme"
html_title = "causalms"
html_static_path = []
html_theme_options = {"show_prev_next": False, "header_links_before_dropdown": 4}
html_sidebars = {
    page: []
    for page in ("csv_to_table_2", "bids_to_report", "sas_and_r", "tutorial", "gallery", "rungs", "where_is_what", "results")
}
autosummary_generate = True
autosummary_imported_members = True
autosummary_ignore_module_all = False
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
suppress_warnings = ["autosummary.import_cycle"]
# Every link must lead somewhere; types of other packages are the only exception.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(pandas|numpy|torch|matplotlib|joblib|pathlib|collections|click)\..*")]
