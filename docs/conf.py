"""Sphinx configuration: ``sphinx-build -W docs docs/_build``."""

import html
import inspect
import json
import os
import re
from pathlib import Path
from urllib.parse import unquote

from sphinx.errors import ExtensionError

import skae
from skae._version import DOCUMENTATION

project = "skae"
author = "the skae developers"
version = release = skae.__version__
extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = f"skae {version}"
html_show_sourcelink = False
html_use_index = False  # the API reference lists all names, and the search finds them
toc_object_entries_show_parents = "hide"  # the column of a page is narrow
copybutton_prompt_text = r">>> |\.\.\. "  # copied are statements, without what they print
copybutton_prompt_is_regexp = True

# Versions whose pages are published, the newest first; a menu in the header of the site has them.
VERSIONS = ["0.1.0"]
IS_PUBLISHED = "READTHEDOCS" in os.environ
html_theme_options = {
    "header_links_before_dropdown": 5,
    "navbar_end": [*["version-switcher"] * IS_PUBLISHED, "theme-switcher"],
    "navbar_align": "left",
    "show_toc_level": 2,
    "switcher": {
        # The newest version's list, so that old pages offer the new versions too.
        "json_url": f"{DOCUMENTATION}/en/latest/_static/switcher.json",
        "version_match": version,
    },
    "check_switcher": False,  # it would need the network
    "footer_start": ["copyright"],
    "footer_end": [],
}
copyright = f"{author}, BSD 3-Clause license"
# Pages without neighbours in a section have nothing to show in a column of sections.
html_sidebars = {
    page: []
    for page in ("index", "installation", "tutorial", "benchmarks", "design", "changelog", "search")
}
exclude_patterns = ["_build", "examples"]
templates_path = ["_templates"]
autodoc_typehints = "none"  # docstrings have them, in words
smartquotes = False  # links of scikit-learn's diagram look for the straight quotes of docstrings
numpydoc_show_class_members = False
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 2  # so that pages can link to each other's sections
sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"plot_\w+\.py",  # all of them are run
    "abort_on_example_error": True,
    "capture_repr": (),
    "download_all_examples": False,
    "min_reported_time": 600,  # of the machine that builds the pages, not of the reader's
    "notebook_extensions": {".py"},
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
        text = html.unescape(re.sub(r"<[^>]+>", "", path.read_text(encoding="utf-8")))
        for link in re.findall(r'href="([^"]+)"', cls()._repr_html_()):
            url, _, fragment = unquote(link).partition("#:~:text=")
            # A fragment is "parameter,-type": the type follows the parameter in the text.
            if not url.endswith(f"/api/{path.name}") or fragment.replace(",-", "", 1) not in text:
                raise ExtensionError(f"{link} has no target in {path}")


def write_versions(app, exception):
    """Write the list of the menu of versions; the newest is the stable one."""
    if exception or app.builder.format != "html":
        return
    names = {"stable": f"{VERSIONS[0]} (stable)", "latest": "dev"}
    names |= {f"v{version}": version for version in VERSIONS[1:]}
    entries = [
        {"name": name, "version": name.split()[0], "url": f"{DOCUMENTATION}/en/{folder}/"}
        for folder, name in names.items()
    ]
    entries[0]["preferred"] = True
    Path(app.outdir, "_static", "switcher.json").write_text(json.dumps(entries), encoding="utf-8")


def setup(app):
    app.connect("build-finished", check_links_of_the_diagram)
    app.connect("build-finished", write_versions)
