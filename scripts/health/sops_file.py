"""The stack's SOPS file: the server opens it, and so does this operator."""

import shutil
from collections.abc import Iterator

import rules
from scripts.commands import as_typed

from .lines import Line, Unknown, fails, ok
from .setup import Setup


def opened_by_server(setup: Setup) -> Iterator[Line]:
    import sops

    path = setup.settings().secrets_file
    identity = setup.settings().need("hostAgeKey", rules.age_identity)
    try:
        sops.checked(path, identity)
        yield ok(f"{as_typed(path)} is for this stack's server, with both of headscale's keys")
    except rules.Rejected as problem:
        yield fails(f"{as_typed(path)} {problem}", problem.repair)


def opened_by_operator(setup: Setup) -> Iterator[Line]:
    from scripts import operator_key

    path = setup.settings().secrets_file
    if not shutil.which("sops"):
        raise Unknown("not looked at without sops")
    if not path.exists():
        raise Unknown(f"not looked at without {as_typed(path)}")
    if words := operator_key.refusal(path):
        yield fails(f"you cannot open {as_typed(path)}: {words}", operator_key.way_in(path, setup.stack().name))
    else:
        yield ok(f"opens {as_typed(path)}")
