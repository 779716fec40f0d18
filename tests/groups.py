"""Marks each test by what it needs, runs the demanding ones first, and prints how long each group took.

What one process shares - the server's image, a module's living rehearsal - stays together when several processes share
the tests.
"""

from collections import Counter
from pathlib import Path

import pytest

from rehearsal.setup import cache

# By fixture, the most demanding first.
NEEDS = {"debian_disk": "qemu", "world": "world", "server": "image", "engine": "engine", "stopped_sshd": "sshd"}
ORDER = [*NEEDS.values(), "python"]
# One process alone runs these: what they share is large, or they would leave the others no processor.
APART = {"qemu", "image"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        fixtures = getattr(item, "fixturenames", [])
        need = next((need for fixture, need in NEEDS.items() if fixture in fixtures), "python")
        item.add_marker(need)
        item.user_properties.append(("need", need))
        if need in APART:
            item.add_marker(pytest.mark.xdist_group(need))
        elif "living" in fixtures:
            item.add_marker(pytest.mark.xdist_group("living"))
    items.sort(key=lambda item: ORDER.index(dict(item.user_properties)["need"]))


@pytest.fixture(autouse=True)
def only_python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that names no need finds nothing that set-up makes, on a machine that has it too."""
    if request.node.get_closest_marker("python"):
        monkeypatch.setattr(cache, "ROOT", Path("/dev/null/this test is marked python"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    seconds: Counter[str] = Counter()
    tests: Counter[str] = Counter()
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        if isinstance(report, pytest.TestReport):
            need = dict(report.user_properties)["need"]
            seconds[need] += report.duration
            tests[need] += report.when == "call"
    terminalreporter.section("time by what tests need")
    for need in ORDER:
        terminalreporter.write_line(f"{seconds[need]:7.1f} s  {tests[need]:4} tests  {need}")
