"""A real browser at the operator's: Debian's Chromium, led by playwright, which trusts the rehearsal's authority.

Needs what scripts/test installs. Not modelled: other browsers, extensions, a person's patience.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, Response, sync_playwright

from rehearsal.sandbox.capsule import Run
from rehearsal.sandbox.processes import check

HERE = Path(__file__).parent
PATIENCE = 10.0
# Chromium's sandbox does not work as root; the rest keeps it off the network of its own accord.
FLAGS = (
    *("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run", "--no-proxy-server"),
    *("--disable-background-networking", "--disable-component-update"),
)


@contextmanager
def chromium(run: Run, ca_bundle: Path) -> Iterator[Browser]:
    """Start it; when the block ends, it is over with all its processes."""
    program = shutil.which("chromium")
    if program is None:
        raise SystemExit("`chromium` is missing; `scripts/install test` installs it.")
    home = run.directory("browser")
    _trust(home / ".pki/nssdb", ca_bundle)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=FLAGS, env={"HOME": str(home), "PATH": os.environ["PATH"]}
        )
        try:
            yield browser
        finally:
            browser.close()


def _trust(database: Path, ca_bundle: Path) -> None:
    """Chromium reads no bundle, only this database, to which certutil adds one certificate at a time."""
    database.mkdir(parents=True)
    certutil = ["certutil", "-d", f"sql:{database}"]
    check([*certutil, "-N", "--empty-password"])
    for number, certificate in enumerate(ca_bundle.read_text().split("-----BEGIN ")[1:]):
        check([*certutil, "-A", "-a", "-t", "C,,", "-n", f"authority {number}"], text=f"-----BEGIN {certificate}")


class Reader:
    """Somebody at a browser that has never been here: no cache, no key. What goes wrong is remembered.

    `answers` are (status, URL), `refused` what a page's policy did not allow, `errors` what the console said.
    """

    def __init__(self, browser: Browser) -> None:
        self.answers: list[tuple[int, str]] = []
        self.refused: list[str] = []
        self.errors: list[str] = []
        context = browser.new_context()
        context.set_default_timeout(PATIENCE * 1000)
        context.expose_function("refused", lambda what: self.refused.append(what))
        context.add_init_script(path=HERE / "watch.js")
        self.page: Page = context.new_page()
        self.page.on("response", self._answered)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self.page.context.close()

    def _answered(self, response: Response) -> None:
        self.answers.append((response.status, response.url))

    def does(self, script: str, argument: Any) -> Any:
        """The result of one of the scripts beside this file, run in the page."""
        return self.page.evaluate((HERE / script).read_text(), argument)

    def sees(self, heading: str) -> None:
        self.page.get_by_role("heading", name=heading).wait_for()

    def reads(self, text: str) -> None:
        self.page.get_by_text(text).first.wait_for()
