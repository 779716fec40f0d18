"""Prints the Content-Security-Policy of a built headscale-ui as an nginx directive.

Each page starts by one inline script, which the policy must name by its hash: a wrong one is a blank page.
Anything else inline, or from elsewhere, would be blocked in the browser, so it fails the build here.
"""

import base64
import hashlib
import re
import sys
from pathlib import Path

SCRIPT = re.compile(r"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", re.DOTALL)
ELSE_BLOCKED = re.compile(
    r"<style[\s>]|<base[\s>]|<[^>]+\s(?:on[a-z]+|style)=|<(?!a\s)[^>]+\s(?:src|href)=[\"']?(?:[a-z]+:)?//"
)
# Svelte's transitions insert <style>/* empty */</style>; with that refused the UI crashes.
EMPTY_STYLE = "'sha256-9OlNO0DNEeaVzHL4RZwCLsBHA8WBQ8toBp/4F5XV2nc='"


def script_hash(page: Path) -> str:
    text = page.read_text(encoding="utf-8")
    scripts = SCRIPT.findall(text)
    if len(scripts) != 1:
        raise SystemExit(f"{page}: {len(scripts)} inline scripts, expected one")
    if blocked := ELSE_BLOCKED.search(SCRIPT.sub("", text)):
        raise SystemExit(f"{page}: {blocked[0]!r} would be blocked")
    digest = hashlib.sha256(scripts[0].encode()).digest()
    source = f"'sha256-{base64.b64encode(digest).decode()}'"
    if source not in text:
        raise SystemExit(f"{page}: its own policy does not name its script's hash {source}")
    return source


def policy(directory: Path) -> str:
    hashes = sorted({script_hash(page) for page in directory.rglob("*.html")})
    if not hashes:
        raise SystemExit(f"{directory}: no pages")
    sources = {
        "default-src": "'none'",
        "script-src": " ".join(["'self'", *hashes]),
        "style-src": f"'self' {EMPTY_STYLE}",
        "img-src": "'self'",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in sources.items())


if __name__ == "__main__":
    print(f'add_header Content-Security-Policy "{policy(Path(sys.argv[1]))}" always;')
