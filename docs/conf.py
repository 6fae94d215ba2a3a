"""Sphinx configuration: ``sphinx-build -W docs docs/_build``."""

import html
import inspect
import re
from pathlib import Path
from urllib.parse import unquote

from sphinx.errors import ExtensionError

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
html_theme_options = {"header_links_before_dropdown": 5}
# Pages without neighbours in a section have nothing to show in a column of sections.
html_sidebars = {page: [] for page in ("index", "tutorial", "benchmarks", "design", "changelog")}
exclude_patterns = ["_build", "examples"]
templates_path = ["_templates"]
autodoc_typehints = "none"  # docstrings have them, in words
smartquotes = False  # links of scikit-learn's diagram look for the straight quotes of docstrings
numpydoc_show_class_members = False
myst_enable_extensions = ["colon_fence", "dollarmath"]
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


CLASSES = {name: getattr(skae, name) for name in skae.__all__ if name[0].isupper()}


def public_methods(cls):
    """Names of the methods that skae defines, and of those inherited from scikit-learn."""
    modules = {
        name: method.__module__.split(".")[0]
        for name, method in inspect.getmembers(cls, inspect.isroutine)
        if not name.startswith("_")
    }
    ours = [name for name, module in modules.items() if module == "skae"]
    return {"ours": ours, "inherited": [name for name in modules if name not in ours]}


# Docstrings of inherited methods refer to pages of scikit-learn's documentation, so the page of a
# class describes its own methods in full and only lists the others.
autosummary_context = {"methods_of": {name: public_methods(cls) for name, cls in CLASSES.items()}}


def check_links_of_the_diagram(app, exception):
    """Fail the build if a link of scikit-learn's HTML diagram has no target in the built pages."""
    if exception or app.builder.format != "html":
        return
    for name, cls in CLASSES.items():
        if not hasattr(cls, "_get_doc_link"):
            continue
        path = Path(app.outdir, "api", f"skae.{name}.html")
        text = html.unescape(re.sub(r"<[^>]+>", "", path.read_text()))
        for link in re.findall(r'href="([^"]+)"', cls()._repr_html_()):
            url, _, fragment = unquote(link).partition("#:~:text=")
            # A fragment is "parameter,-type": the type follows the parameter in the text.
            if not url.endswith(f"/api/{path.name}") or fragment.replace(",-", "", 1) not in text:
                raise ExtensionError(f"{link} has no target in {path}")


def setup(app):
    app.connect("build-finished", check_links_of_the_diagram)
