"""Sphinx configuration: ``sphinx-build -W docs docs/_build``."""

import skae

project = "skae"
author = "the skae developers"
version = release = skae.__version__
extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
exclude_patterns = ["_build"]
templates_path = []
numpydoc_show_class_members = False
autodoc_default_options = {"members": True, "inherited-members": False}
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 2  # so that pages can link to each other's sections
