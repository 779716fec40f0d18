"""The web interface in a real browser: it works under the strictest policy, and nothing else does.

Where headscale-ui's release could not be fetched, the pages are ours, with what the host can break in the real ones.
"""

import base64
import hashlib
import re

try:
    from playwright.sync_api import Browser

    from rehearsal.people.browser import Reader, chromium
except ImportError as missing:
    raise SystemExit(f"The story `browser` needs what `scripts/install test` brings: {missing}.") from missing

from rehearsal.sandbox.wait import eventually
from rehearsal.story import HEADSCALE, UI, Story

PAGES = f"https://{UI}/web"
HEADINGS = {
    "users.html": "User View",
    "devices.html": "Device View",
    "groups.html": "Group View",
    "settings.html": "Server Settings",
}
SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
# Nothing is cached at first, and headscale-ui's release comes in 19 requests.
TWO_COLD_BROWSERS = 2 * 19
WITHOUT_KEY = re.compile("401|Unauthorized")
REFUSED_TO_AN_INTRUDER = {
    *("script-src-elem", "script-src-attr", "script-src", "style-src-elem", "img-src", "connect-src"),
    *("frame-src", "base-uri", "form-action"),
}
DOCUMENTATION_NETWORK = "192.0.2.0/24"


class InTheBrowser(Story):
    """A person's work in the web interface, and attacks on its pages."""

    def tell(self) -> None:
        self.up()
        with chromium(self.world.run, self.world.ca_bundle) as browser:
            self.policy(browser)
            self.deep_links(browser)
            self.key(browser)
            self.two_at_once(browser)
            self.reload(browser)
            self.intruder(browser)
            self.frame(browser)
            self.join_page(browser)
            self.new_user(browser)
            self.other_network(browser)
        self.say_whose_pages()

    def policy(self, browser: Browser) -> None:
        with self.report.step("each page is served with one policy, which names all their scripts' hashes") as line:
            hashes, policies = set(), set()
            for name in ("", *HEADINGS):
                with Reader(browser) as visitor:
                    page = visitor.page.goto(f"{PAGES}/{name}")
                    assert page and page.status == 200, page
                    hashes |= {script_hash(script) for script in SCRIPT.findall(page.text())}
                    policies.add(page.headers["content-security-policy"])
            (policy,) = policies
            named = set(re.findall(r"script-src ([^;]*);", policy)[0].split())
            assert named == {"'self'", *hashes}, f"the policy names {named}, the pages have {hashes}"
            line.note = f"{len(hashes)} hashes"

    def deep_links(self, browser: Browser) -> None:
        with self.report.step("every page renders when it is opened first; the policy refuses nothing") as line:
            for name, heading in {"": "User View", **HEADINGS}.items():
                with Reader(browser) as visitor:
                    visitor.page.goto(f"{PAGES}/{name}")
                    visitor.sees(heading)
                    assert visitor.refused == []
                    unexpected = [error for error in visitor.errors if not WITHOUT_KEY.search(error)]
                    assert unexpected == [], unexpected
            line.note = "/web/, " + ", ".join(HEADINGS)

    def key(self, browser: Browser) -> None:
        with Reader(browser) as visitor:
            with self.report.step("a wrong key is told"):
                self.enter(visitor, self.outputs["apiKey"][:-1])
                visitor.page.goto(f"{PAGES}/users.html")
                visitor.reads("API test did not succeed")
            with self.report.step("the output apiKey is taken, and lists the users") as line:
                self.enter(visitor, self.outputs["apiKey"])
                visitor.reads("Edit API Key")
                visitor.page.goto(f"{PAGES}/users.html")
                line.note = self.reads_users(visitor)
            with self.report.step("with the key, no page has an error on its console, and the policy refuses nothing"):
                visitor.errors.clear()
                for name, heading in HEADINGS.items():
                    visitor.page.goto(f"{PAGES}/{name}")
                    visitor.sees(heading)
                assert (visitor.errors, visitor.refused) == ([], [])

    def enter(self, visitor: Reader, key: str) -> None:
        visitor.page.goto(f"{PAGES}/settings.html")
        visitor.sees("Server Settings")
        visitor.page.get_by_placeholder("****").fill(key)
        visitor.page.get_by_role("button", name="Test Server Settings").click()

    def reads_users(self, visitor: Reader) -> str:
        for user in self.outputs["users"]:
            visitor.reads(f": {user}")
        return ", ".join(self.outputs["users"])

    def join_page(self, browser: Browser) -> None:
        page = self.world.run.directory("join") / "page.html"
        with self.report.step("the page of `scripts/join` shows in the browser, and loads nothing"):
            self.world.stack.join_page("admin", "--key", "--output", str(page))
            with Reader(browser) as visitor:
                visitor.page.goto(page.as_uri())
                visitor.sees(f"Join a device to {HEADSCALE}")
                assert visitor.page.locator("#qr").evaluate("image => image.naturalWidth") > 0
                assert (visitor.errors, visitor.refused) == ([], [])
                line = visitor.page.locator("#linux").inner_text()
        with (
            self.report.step("  and its line for Linux, word by word, joins a device"),
            self.world.device("tablet") as tablet,
        ):
            tablet.join(line)

    def new_user(self, browser: Browser) -> None:
        with self.report.step("a user that `pulumi up` creates is shown") as line, Reader(browser) as visitor:
            self.enter(visitor, self.outputs["apiKey"])
            visitor.reads("Edit API Key")
            self.world.stack.set("users", *self.outputs["users"], "guest", as_list=True)
            self.world.stack.up()
            self.outputs = self.world.stack.outputs()
            visitor.page.goto(f"{PAGES}/users.html")
            line.note = self.reads_users(visitor)

    def two_at_once(self, browser: Browser) -> None:
        with (
            self.report.step("two browsers behind one address that open it at once are served in full") as line,
            Reader(browser) as one,
            Reader(browser) as other,
        ):
            for visitor in (one, other):
                visitor.does("visit.js", f"{PAGES}/users.html")
            for visitor in (one, other):
                visitor.sees("User View")
            # A busy machine spreads their requests; these come in one moment.
            files = [url for _, url in one.answers if url.startswith(PAGES)]
            statuses = one.does("ask.js", [files[number % len(files)] for number in range(TWO_COLD_BROWSERS)])
            assert set(statuses) == {200}, statuses
            rejected = [answer for answer in one.answers + other.answers if answer[0] in (429, 503)]
            assert rejected == [], rejected
            line.note = f"also as {len(statuses)} requests in one moment"

    def open(self, visitor: Reader) -> None:
        visitor.page.goto(f"{PAGES}/users.html")
        visitor.sees("User View")
        visitor.page.wait_for_load_state("networkidle")

    def reload(self, browser: Browser) -> None:
        with (
            self.report.step("a reload asks for the page and for what changes only") as line,
            Reader(browser) as visitor,
        ):
            before = self.requests()
            self.open(visitor)
            opened = self.requests() - before
            visitor.page.reload()
            visitor.sees("User View")
            visitor.page.wait_for_load_state("networkidle")
            again = self.requests() - before - opened
            assert again <= 3, f"a reload took {again} requests"
            line.note = f"{opened} requests to open it, {again} to reload it"

    def requests(self) -> int:
        return int(self.world.host.run("grep", "--count", "/web/\\|/api/", "/var/log/nginx/access.log"))

    def intruder(self, browser: Browser) -> None:
        elsewhere = f"https://{HEADSCALE}"
        with (
            self.report.step("a script in the page can load, run, send and post nothing") as line,
            Reader(browser) as visitor,
        ):
            self.open(visitor)
            visitor.does("intruder.js", elsewhere)
            refused = eventually(lambda: self.directives(visitor), "refusals", timeout=5)
            assert not [url for _, url in visitor.answers if url.startswith(elsewhere)], visitor.answers
            line.note = f"{len(refused)} directives"

    def directives(self, visitor: Reader) -> set[str]:
        # Events arrive while playwright is asked something.
        visitor.page.title()
        matches = {refusal.split()[0] for refusal in visitor.refused}
        assert matches == REFUSED_TO_AN_INTRUDER, f"refused: {matches}"
        return matches

    def frame(self, browser: Browser) -> None:
        with self.report.step("no other page can show it in a frame"), Reader(browser) as visitor:
            visitor.does("framed.js", f"{PAGES}/users.html")
            (frame,) = visitor.page.frames[1:]
            assert frame.url.startswith("chrome-error:"), f"the frame shows {frame.url}"

    def other_network(self, browser: Browser) -> None:
        with (
            self.report.step("outside of uiAllowedNetworks neither pages nor the API are served"),
            Reader(browser) as visitor,
        ):
            self.world.stack.set("uiAllowedNetworks", DOCUMENTATION_NETWORK, as_list=True)
            self.world.stack.up()
            answer = visitor.page.goto(f"{PAGES}/users.html")
            assert answer and answer.status == 403, answer
            assert self.get(f"https://{UI}/api/v1/user", self.outputs["apiKey"])[0] == 403

    def say_whose_pages(self) -> None:
        with self.report.step("all of this with the pages of headscale-ui's release") as line:
            if not self.world.prepared.has_ui_release:
                line.verdict = "not run"
                line.note = "it cannot be downloaded here; stand-in pages with the same traits were served"


def script_hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
