"""Fail if a link between built pages leads to a page, file or section that is missing.

    python docs/check_links.py docs/_build

Links to other sites are not followed: no network is needed.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Attributes that name another page or file.
LINKS = {"href", "src"}


class Page(HTMLParser):
    """The targets within a page, and the links that it has."""

    def __init__(self, path):
        super().__init__()
        self.targets, self.links = set(), set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id" or (tag == "a" and name == "name"):
                self.targets.add(value)
            elif name in LINKS and value:
                self.links.add(value)


def broken_links(root):
    """Return a sentence for each link without a target."""
    root = Path(root).resolve()
    paths = [p for p in sorted(root.rglob("*.html")) if "_static" not in p.parts]  # templates
    pages = {path: Page(path) for path in paths}
    problems = []
    for path, page in pages.items():
        for link in sorted(page.links):
            url = urlsplit(link)
            if url.scheme or url.netloc:  # on another site, or data
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(url.fragment).partition(":~:")[0]
            if not target.is_file():
                problems.append(f"{path.relative_to(root)}: {link} has no file")
            elif anchor and target in pages and anchor not in pages[target].targets:
                problems.append(f"{path.relative_to(root)}: {link} has no section")
    if not pages:
        problems.append(f"{root} has no pages")
    return problems


if __name__ == "__main__":
    found = broken_links(sys.argv[1])
    sys.exit("\n".join(found) or 0)
