"""The settings that only the operator knows: each a flag of scripts/init, or asked for in a terminal."""

import argparse
import os
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import rules
import tokens

from . import prices
from .commands import Refused, StackSettings, as_typed
from .health import api


class Question(NamedTuple):
    """A setting's key, the text that asks for it, and its rule; `without` says what no answer means.

    A list gets one entry.
    """

    key: str
    flag: str
    text: str
    rule: Callable[[str], object]
    without: str = ""

    @property
    def path(self) -> str:
        return f"{self.key}[0]" if self.key == "adminNetworks" else self.key


def _network(text: str) -> object:
    return text and rules.reachable_network(text)


QUESTIONS = (
    Question("domain", "--domain", "Domain that the names are made of, such as example.org", rules.domain),
    Question("acmeEmail", "--acme-email", "E-mail address that the certificate authority writes to", rules.email),
    Question("zone", "--zone", "Cloudflare zone that holds the names", rules.domain),
    Question("location", "--location", "Hetzner location, such as nbg1, hel1 or fsn1", rules.location),
    Question("serverType", "--server-type", "Hetzner server type", rules.server_type),
    Question(
        "adminNetworks", "--admin-network", "Network that alone reaches SSH, your own address", _network, "anyone"
    ),
)
REQUIRED = ("domain", "acmeEmail")


def add_flags(parser: argparse.ArgumentParser) -> None:
    for question in QUESTIONS:
        parser.add_argument(question.flag, dest=question.key, metavar=question.key, help=question.text)


def settle(stack: StackSettings, flags: Mapping[str, str | None], in_terminal: bool) -> Iterator[str]:
    """Set what the flags say and, in a terminal, what is asked; yields what was set.

    All is asked before anything is set: an interrupted command has changed nothing.
    """
    answers: dict[str, str] = {}
    for question in QUESTIONS:
        if flag := flags.get(question.key):
            _require_free(stack, question, flag)
            answers[question.key] = flag
        elif in_terminal and _is_open(stack, question):
            answers[question.key] = _ask(question, stack, answers)
    for question in QUESTIONS:
        if answer := answers.get(question.key):
            stack.set(question.path, answer, secret=False)
            yield f"headscale:{question.key} to {answer} in {as_typed(stack.config_file)}"


def came_along(stack: StackSettings) -> bool:
    """True where the settings of a new stack are those of the repository's own Pulumi.prod.yaml."""
    return stack.name == "prod" and not stack.has("deployKey") and stack.sets("domain")


def _is_open(stack: StackSettings, question: Question) -> bool:
    """True where the answer lacks; what has a default is asked for in new stacks alone."""
    if question.key in REQUIRED:
        return came_along(stack) or not stack.sets(question.key)
    return not stack.has("deployKey") and not stack.sets(question.key)


def _require_free(stack: StackSettings, question: Question, answer: str) -> None:
    try:
        question.rule(answer)
    except rules.Rejected as problem:
        raise Refused(f"{question.flag}: {answer!r} {problem}") from None
    if stack.sets(question.key) and not came_along(stack) and stack.value(question.path) != answer:
        change = f"`pulumi config set --path 'headscale:{question.path}' {answer}` changes it"
        raise Refused(f"{question.flag}: headscale:{question.key} is already set to something else; {change}")


def _ask(question: Question, stack: StackSettings, answers: Mapping[str, str]) -> str:
    if question.key == "serverType":
        _show_offer(stack, answers.get("location") or stack.value("location"))
    default = _default(question, stack, answers)
    hint = default or question.without
    while True:
        answer = input(f"{question.text}{hint and f' [{hint}]'}: ").strip() or default
        try:
            question.rule(answer)
            return answer
        except rules.Rejected as problem:
            print(f"{answer!r} {problem}")


def _default(question: Question, stack: StackSettings, answers: Mapping[str, str]) -> str:
    if question.key == "zone":
        return answers.get("domain") or stack.value("domain")
    return "" if question.without else stack.value(question.key)


def _show_offer(stack: StackSettings, location: str) -> None:
    """Print what Hetzner has there and what it costs, where there is a token to ask with."""
    if os.environ.get("HCLOUD_TOKEN"):
        url = os.environ.get("HCLOUD_ENDPOINT") or stack.value("hcloud:endpoint") or api.HETZNER
        try:
            hetzner = api.hetzner(url, tokens.hetzner(lambda _: None))
            print("\n".join(prices.server_types(location, hetzner) or [f"Hetzner has none in {location} now"]))
        except (Refused, rules.Rejected) as problem:
            print(f"No prices: {problem}")
