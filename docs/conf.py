"""Sphinx configuration: ``sphinx-build -W docs docs/_build``."""

import skae

project = "skae"
author = "the skae developers"
version = release = skae.__version__
extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
]
html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["gallery.css"]
exclude_patterns = ["_build", "examples"]
templates_path = []
numpydoc_show_class_members = False
autodoc_default_options = {"members": True, "inherited-members": False}
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 2  # so that pages can link to each other's sections
sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"plot_\w+\.py",  # all of them are run
    "abort_on_example_error": True,
    "capture_repr": (),
    "download_all_examples": False,
    "notebook_extensions": set(),
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
}
