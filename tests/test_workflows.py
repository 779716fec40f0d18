"""The workflows are sound, can do no more than they have to, and their scripts do what the pages say."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).resolve().parent
PROGRAM = HERE.parent
GITHUB = PROGRAM / ".github"
TOOLS = Path(sys.executable).parent
WORKFLOWS = {path.stem: yaml.load(path.read_text(), yaml.BaseLoader) for path in GITHUB.glob("workflows/*.yml")}
ACTION = yaml.load((GITHUB / "actions/pulumi/action.yml").read_text(), yaml.BaseLoader)
JOBS = {(name, job): content for name, file in WORKFLOWS.items() for job, content in file["jobs"].items()}
STEPS = [*(step for job in JOBS.values() for step in job["steps"]), *ACTION["runs"]["steps"]]
READS = {"contents": "read"}
PERMISSIONS = {
    ("drift", "drift"): READS | {"issues": "write"},
    ("update", "update"): {"contents": "write", "pull-requests": "write"},
    ("up", "approval"): {},
}
OF_OPERATORS = {("preview", "preview"), ("up", "up"), ("drift", "drift")}


def run(*command: str | Path, place: Path = PROGRAM, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=place, env=os.environ | environment, capture_output=True, text=True)


def test_the_linter_has_nothing_to_say():
    process = run(TOOLS / "zizmor", "--offline", "--no-progress", "--strict-collection", ".github")
    assert process.returncode == 0, process.stdout + process.stderr


@pytest.mark.parametrize(("schema", "files"), [("workflows", "workflows/*.yml"), ("actions", "actions/*/action.yml")])
def test_githubs_schema_takes_every_file(schema: str, files: str):
    paths = [*GITHUB.glob(files)]
    process = run(TOOLS / "check-jsonschema", "--builtin-schema", f"vendor.github-{schema}", *paths)
    assert paths and process.returncode == 0, process.stdout + process.stderr


def test_actions_are_pinned_by_commit_and_each_in_one_version():
    files = [*GITHUB.glob("workflows/*.yml"), *GITHUB.glob("actions/*/action.yml")]
    lines = [line for path in files for line in re.findall(r"^.*\buses: (.*)$", path.read_text(), re.MULTILINE)]
    pins = {line for line in lines if not line.startswith("./")}
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", pin)] == []
    assert len(pins) == len({pin.partition("@")[0] for pin in pins})


@pytest.mark.parametrize("name", WORKFLOWS)
def test_nothing_is_started_by_another_repositorys_code_with_this_ones_rights(name: str):
    assert set(WORKFLOWS[name]["on"]) <= {"push", "pull_request", "schedule", "workflow_dispatch"}


@pytest.mark.parametrize(("name", "job"), JOBS)
def test_a_job_has_the_least_permissions(name: str, job: str):
    assert WORKFLOWS[name]["permissions"] == {}
    assert JOBS[name, job].get("permissions", {}) == PERMISSIONS.get((name, job), READS)
    assert "timeout-minutes" in JOBS[name, job]


@pytest.mark.parametrize(("name", "job"), JOBS)
def test_secrets_are_in_one_environment_and_reach_the_step_that_needs_them(name: str, job: str):
    content = JOBS[name, job]
    steps = [step for step in content["steps"] if "secrets." in str(step)]
    assert bool(steps) == ((name, job) in OF_OPERATORS) == (content.get("environment") == "stack")
    assert "secrets." not in str({key: value for key, value in content.items() if key != "steps"})
    assert all(set(step) == {"run", "env"} for step in steps)


def test_a_preview_is_for_branches_of_this_repository_alone():
    condition = WORKFLOWS["preview"]["jobs"]["preview"]["if"]
    assert "&& github.event.pull_request.head.repo.full_name == github.repository" in condition


def test_an_up_is_started_by_hand_and_waits_for_the_approval():
    assert set(WORKFLOWS["up"]["on"]) == {"workflow_dispatch"}
    assert WORKFLOWS["up"]["jobs"]["up"]["needs"] == "approval"
    assert WORKFLOWS["up"]["jobs"]["approval"]["environment"] == "approval"


def test_no_language_is_inside_another():
    assert [step["run"] for step in STEPS if "\n" in step.get("run", "")] == []
    assert [step["run"] for step in STEPS if "${{" in step.get("run", "")] == []


def test_pulumi_is_the_one_that_the_program_asks_for():
    (step,) = (step for step in ACTION["runs"]["steps"] if "pulumi/actions" in step.get("uses", ""))
    assert f"pulumi=={step['with']['pulumi-version']}\n" in (PROGRAM / "requirements.txt").read_text()


class Runner:
    """A job's machine: a checkout with a scripts/nightly and a scripts/update of the test's own, and gh's stand-in."""

    def __init__(self, place: Path) -> None:
        self.place, self.log, self.report = place, place / "log", place / "report.md"
        self.checkout = place / "checkout"
        shutil.copytree(GITHUB, self.checkout / ".github")
        (self.checkout / "scripts").mkdir()
        (place / "bin").mkdir()
        shutil.copy(HERE / "gh.sh", place / "bin/gh")
        self.log.touch()
        self.environment: dict[str, str] = {
            "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
            "LOG": str(self.log),
            "RUNNER_TEMP": str(place),
            "GITHUB_STEP_SUMMARY": str(place / "summary"),
            "STACK": "mine",
            "HOME": str(place),
        }

    def program(self, path: str, says: str = "", status: int = 0) -> None:
        """Put a program there that says this and ends with this status."""
        file = self.place / path
        file.write_text(f"#!/bin/sh\nprintf '%s' '{says}'\nexit {status}\n")
        file.chmod(0o755)

    def run(self, script: str, *arguments: str | Path, expect: int = 0, **more: str) -> str:
        process = run(f".github/{script}", *arguments, place=self.checkout, **self.environment, **more)
        assert process.returncode == expect, process.stdout + process.stderr
        return process.stdout

    def calls(self) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if not line.startswith("issue list")]


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    yield Runner(tmp_path)


@pytest.mark.parametrize(("status", "expect"), [(0, 0), (7, 0), (1, 1), (127, 1)])
def test_a_difference_is_reported_and_what_is_not_known_fails(runner: Runner, status: int, expect: int):
    runner.program("checkout/scripts/nightly", "- update server\n", status)
    assert runner.run("compare.sh", expect=expect) == "- update server\n"
    assert runner.report.read_text() == (runner.place / "summary").read_text() == "- update server\n"


def test_a_comparison_that_did_not_begin_leaves_no_report(runner: Runner):
    runner.program("checkout/scripts/nightly", status=1)
    assert runner.run("compare.sh", expect=1) == ""
    assert not runner.report.exists()


def test_a_clean_stack_is_said_to_be_and_its_report_is_empty(runner: Runner):
    runner.program("checkout/scripts/nightly")
    assert runner.run("compare.sh") == "The stack is as configured.\n"
    assert runner.report.read_text() == ""


def test_an_up_says_nothing_of_its_own_and_fails_as_pulumi_does(runner: Runner):
    runner.program("checkout/scripts/nightly", "- update server\n", 7)
    runner.program("bin/pulumi", "203.0.113.5 alice\n")
    assert runner.run("up.sh") == "- update server\n"
    runner.program("bin/pulumi", "203.0.113.5 alice\n", 255)
    output = runner.run("up.sh", expect=1)
    assert "203.0.113.5" not in output
    assert output.startswith("- update server\n`pulumi up` ended with 255")


ISSUES = {
    "news, and no issue": ("differs", "", ["label create drift", "issue create"]),
    "news, and an issue": ("differs", "12", ["issue edit 12 --body-file"]),
    "clean, and an issue": ("", "12", ["issue close 12"]),
    "clean, and no issue": ("", "", []),
    "not compared": (None, "12", []),
}


@pytest.mark.parametrize(("report", "issue", "calls"), ISSUES.values(), ids=ISSUES)
def test_one_issue_lists_what_differs(runner: Runner, report: str | None, issue: str, calls: list[str]):
    if report is not None:
        runner.report.write_text(report)
    runner.run("drift-issue.sh", runner.report, ISSUE=issue)
    assert len(runner.calls()) == len(calls)
    assert all(call.startswith(start) for call, start in zip(runner.calls(), calls, strict=True))


@pytest.mark.parametrize("request_exists", [False, True])
def test_what_has_moved_becomes_one_pull_request(runner: Runner, request_exists: bool):
    origin = git_checkout(runner)
    runner.program("checkout/scripts/update", "headscale 0.29.3 -> 0.29.4\n")
    assert "0.29.4" in runner.run("propose-update.sh")
    assert runner.calls() == []
    (runner.checkout / "nix/pins").write_text("moved")
    runner.run("propose-update.sh", REQUEST="1" if request_exists else "")
    verbs = [" ".join(call.split()[:2]) for call in runner.calls()]
    assert verbs == ["auth setup-git", "pr create", *(["pr edit"] if request_exists else [])]
    changed = run("git", "show", "--format=%s", "--name-only", "update", place=origin).stdout.split("\n\n")
    assert changed == ["Move to newer versions", "nix/pins\n"]


def git_checkout(runner: Runner) -> Path:
    """Make a repository of the checkout; returns the one that it came from."""
    origin = runner.place / "origin"
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    (runner.checkout / "nix").mkdir()
    (runner.checkout / "nix/pins").touch()
    for command in (
        ("init", "--quiet", "--bare", str(origin)),
        ("init", "--quiet"),
        ("add", "."),
        (*identity, "commit", "--quiet", "--message", "x"),
        ("remote", "add", "origin", str(origin)),
    ):
        assert run("git", *command, place=runner.checkout).returncode == 0
    return origin


def test_the_page_names_every_workflow_secret_and_variable():
    page = (PROGRAM / "docs/automation.md").read_text()
    text = "".join(path.read_text() for path in GITHUB.glob("workflows/*.yml"))
    names: set[Any] = {*WORKFLOWS, *re.findall(r"\b(?:secrets|vars)\.(\w+)", text)}
    assert [name for name in sorted(names) if f"`{name}" not in page] == []
    assert "untried on GitHub" in " ".join(page.split())
