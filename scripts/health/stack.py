"""The stack at its backend: its configuration, and its state with what a killed engine left in it."""

from collections.abc import Callable, Iterator
from typing import Any

import rules
from scripts.commands import Refused

from . import locks
from .lines import Line, fails, ok, warning
from .setup import Setup

BACKEND = "`export PULUMI_BACKEND_URL=file://$HOME`, or `pulumi login`, says where the state is"
STACK = "`pulumi stack select` chooses one, `pulumi stack init NAME` makes one, --stack NAME names one"
PASSPHRASE = (
    "PULUMI_CONFIG_PASSPHRASE, or the file that PULUMI_CONFIG_PASSPHRASE_FILE names, must hold the stack's passphrase; "
    "with another secrets provider, see that you are logged in there"
)
RULES: dict[str, tuple[Callable[[str], Any], str]] = {
    "domain": (rules.domain, "`pulumi config set domain example.org`"),
    "acmeEmail": (rules.email, "`pulumi config set acmeEmail you@example.org`"),
    "deployKey": (rules.private_key, "`scripts/init` makes it where it is not set"),
    "sshHostKey": (rules.private_key, "`scripts/init` makes it where it is not set"),
    "hostAgeKey": (rules.age_identity, "`scripts/init` makes it where it is not set"),
}


def backend(setup: Setup) -> Iterator[Line]:
    setup.pulumi()
    try:
        yield ok("{url}, as {user}".format_map(setup.backend.result()))
    except Refused as problem:
        yield fails(str(problem), BACKEND)


def stack(setup: Setup) -> Iterator[Line]:
    setup.backend()
    try:
        yield ok(setup.stack.result().name)
    except Refused as problem:
        yield fails(str(problem), STACK)


def passphrase(setup: Setup) -> Iterator[Line]:
    setup.stack()
    try:
        setup.settings.result()
        yield ok("opens the secrets of the configuration")
    except Refused as problem:
        yield fails(str(problem), PASSPHRASE)


def keys(setup: Setup) -> Iterator[Line]:
    """The settings without a default. The values of secrets are not told."""
    settings, sound = setup.settings(), True
    for key, (rule, remedy) in RULES.items():
        try:
            if not settings.text(key):
                raise rules.Rejected("is not set")
            rule(settings.text(key))
        except rules.Rejected as problem:
            sound = False
            yield fails(f"headscale:{key} {problem}", problem.repair or remedy)
    if sound:
        yield ok("all that have no default are set; `pulumi preview` judges the others")


def state(setup: Setup) -> Iterator[Line]:
    setup.stack()
    try:
        state = setup.state.result()
    except Refused as problem:
        yield fails(str(problem), "`pulumi stack export` must work; restore the state from a backup")
        return
    pending = state.get("pending_operations") or []
    if pending:
        locks.require_rest(setup)
    for operation in pending:
        resource = operation["resource"]["urn"].rpartition("::")[2]
        yield warning(
            f"{operation['type']} {resource} had begun when an engine ended, and how it ended is not known",
            "first see to the leftovers, below; then `pulumi refresh --clear-pending-creates --stack "
            f"{setup.stack().name}` takes it out of the state",
        )
    if not pending:
        yield ok(f"{len(state.get('resources') or [])} resources, no operation that was cut off")
