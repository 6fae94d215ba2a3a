"""The README as the package's page shows it: its links lead to the published documentation."""

import re
import runpy
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

# Files of the repository that have no page in the documentation are named without a link.
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)#]+)(#[^)]*)?\)")


class CustomMetadataHook(MetadataHookInterface):
    """Fills in what pyproject.toml names as dynamic, beside the version."""

    def update(self, metadata):
        """Set the text and the address."""
        root = Path(self.root)
        address = runpy.run_path(str(root / "skae" / "_version.py"))["DOCUMENTATION"]
        readme = (root / "README.md").read_text(encoding="utf-8")
        text = with_absolute_links(readme, f"{address}/en/stable")
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        metadata["urls"] = {"Documentation": address}


def with_absolute_links(readme, address):
    """Replace relative links in Markdown by links to pages below an address.

    >>> with_absolute_links("[a](docs/a.md#b), ![c](docs/_static/c.png), [d](d.md)", "https://e")
    '[a](https://e/a.html#b), ![c](https://e/_static/c.png), d'
    """

    def replaced(match):
        mark, text, path, anchor = match.groups()
        if not path.startswith("docs/"):
            return text
        page = path.removeprefix("docs/")
        if page == "examples":
            page = "auto_examples/index.html"
        page = page.removesuffix(".md") + ".html" if page.endswith(".md") else page
        return f"{mark}[{text}]({address}/{page}{anchor or ''})"

    return _LINK.sub(replaced, readme)
