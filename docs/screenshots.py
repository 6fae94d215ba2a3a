"""Take pictures of all built pages in a browser, and fail if a page does not fit or has errors.

    python docs/screenshots.py docs/_build build/screenshots

Every page is opened at the width of a desktop and of a phone, in light and in dark. The browser is
Playwright's Chromium, or the program named by the environment variable CHROMIUM.
"""

import os
import sys
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from playwright.sync_api import sync_playwright

SIZES = {"desktop": (1440, 900), "phone": (390, 844)}
THEMES = ("light", "dark")

# Most height of a header of one row, in pixels.
ONE_ROW = 80

# A word of the documentation, and the page that a search for it must find.
SEARCHED, FOUND = "truncate", "skae.DenseAutoencoder"

# Problems of the page that is open: a list of sentences.
PROBLEMS = """([width, oneRow]) => {
    const problems = [];
    const visible = e => e && e.offsetParent !== null && e.offsetHeight > 0;
    const scrolls = "pre, .pst-scrollable-table-container, .bd-sidebar, .headerlink";
    const wide = [...document.querySelectorAll("main *")].filter(e => visible(e)
        && e.getBoundingClientRect().right > width + 1 && !e.closest(scrolls));
    if (wide.length || document.documentElement.scrollWidth > width) {
        const texts = wide.slice(-3).map(e => `${e.tagName}: ${e.textContent.trim().slice(0, 40)}`);
        problems.push(`is wider than the window: ${texts.join("; ")}`);
    }
    for (const entry of document.querySelectorAll(".bd-sidebar-secondary a"))
        if (visible(entry) && entry.getBoundingClientRect().right > width)
            problems.push(`cuts off ${entry.textContent.trim()}`);
    const header = document.querySelector(".bd-header");
    if (header && header.offsetHeight > oneRow)
        problems.push(`has a header of ${header.offsetHeight} pixels`);
    for (const name of [".bd-sidebar-primary", ".bd-sidebar-secondary"]) {
        const column = document.querySelector(name);
        if (visible(column) && !column.innerText.trim()) problems.push(`has an empty ${name}`);
    }
    for (const image of document.images)
        if (image.complete && !image.naturalWidth) problems.push(`lacks the picture ${image.src}`);
    const article = document.querySelector("article");
    const text = article ? [...article.querySelectorAll("p, li, td")].map(e => {
        const copy = e.cloneNode(true);
        copy.querySelectorAll("code, pre").forEach(c => c.remove());
        return copy.textContent;
    }).join(" ") : "";
    for (const [what, pattern] of Object.entries({
        "a formula": /\\$[^$ ][^$]*\\$/, "a role": /:[a-z]+:`/, "a directive": /:::/,
    })) {
        const match = text.match(pattern);
        if (match) problems.push(`shows ${what} as source: ${match[0]}`);
    }
    return problems;
}"""


class QuietHandler(SimpleHTTPRequestHandler):
    """A handler that prints nothing."""

    def log_message(self, *args):
        pass


@contextmanager
def served(folder):
    """The address of a folder while the block runs."""
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def take(page, address, name, target):
    """Take the pictures of one page; return its problems."""
    problems, file = set(), f"{name.removesuffix('.html').replace('/', '.')}.png"
    page.on("pageerror", lambda error: problems.add(f"has the error {error}"))
    for size, (width, height) in SIZES.items():
        page.set_viewport_size({"width": width, "height": height})
        page.goto(f"{address}/{name}", wait_until="load")
        found = page.evaluate(PROBLEMS, [width, ONE_ROW if size == "desktop" else height])
        problems |= {f"at the width of a {size}: {problem}" for problem in found}
        for theme in THEMES:
            page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
            page.screenshot(path=target / f"{size}-{theme}" / file, full_page=True)
    return problems


def search_problems(page, address):
    """Whether the search finds what it must."""
    page.goto(f"{address}/search.html?q={SEARCHED}")
    try:
        page.wait_for_selector(f"#search-results a[href*='{FOUND}']", timeout=20_000)
    except Exception:
        return {f"search.html: does not find {FOUND} for {SEARCHED!r}"}
    return set()


def main(built, target):
    """Open all pages; return the problems of all, or an empty string."""
    built, target = Path(built), Path(target)
    names = sorted(p.relative_to(built).as_posix() for p in built.rglob("*.html"))
    names = [name for name in names if not name.startswith("_")]
    problems = set()
    with served(built) as address, sync_playwright() as playwright:
        program = os.environ.get("CHROMIUM")
        arguments = os.environ.get("CHROMIUM_ARGUMENTS", "").split()
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        for name in names:
            page = browser.new_page()
            # Pages must not need other sites.
            page.route(lambda url: not url.startswith(address), lambda route: route.abort())
            problems |= {f"{name}: {problem}" for problem in take(page, address, name, target)}
            page.close()
        page = browser.new_page()
        problems |= search_problems(page, address)
        browser.close()
    print(f"{len(names)} pages in {len(SIZES) * len(THEMES)} forms: {target}")
    return "\n".join(sorted(problems))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) or 0)
