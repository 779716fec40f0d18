"""The words about a stack that are safe to publish: resources, properties and facts.

A text is published in the form that a table below gives it; what no table has is only counted. So no secret, address,
user or network gets out, in whatever words a program, a cloud or the server puts it. A new fact or warning of the
program is a line here.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

NAME = r"(?:[a-z0-9-]+\.)+[a-z][a-z0-9-]*"
UNIT = r"[a-z-]+\.(?:service|timer|socket|mount|target)"
RESOURCES = {
    r"server(-(ipv4|ipv6|ssh-key|firewall|server))?": r"\g<0>",
    rf"dns|dns-{NAME}-a{{1,4}}": r"\g<0>",
    r"nixos(-(convert|booted|keys|push|deploy|confirm))?": r"\g<0>",
    r"headscale(-(certificates|api-key|former-users))?": r"\g<0>",
    r"headscale-.+-preauth-key": "headscale-USER-preauth-key",
}
# Each matches from the beginning of a line; the first that does is taken.
SENTENCES = {
    # components/remote/drift.sh and the services' own parts in nix/.
    r"the server (runs|would boot) another system than the deployed one": r"\g<0>",
    r"/etc/nixos is not what was deployed": r"\g<0>",
    r"(headscale|nginx|sshd|fail2ban|nftables)\.service is [a-z-]+": r"\g<0>",
    rf"{UNIT} has failed(, which no deploy repairs)?": r"\g<0>",
    r"/run/secrets/headscale_\w+ belongs to \w+(, mode \d+)?, not to \w+, mode \d+": r"\g<0>",
    r"/etc/headscale/policy\.hujson is not the policy that was deployed": r"\g<0>",
    r"headscale does not accept the API key of the SOPS file": r"\g<0>",
    rf"the certificate for {NAME} has ended": r"\g<0>",
    rf"the certificate for {NAME} ends on [A-Z][a-z]+ [\d :]+ GMT": r"\g<0>",
    r"the server still runs its former kernel": r"\g<0>",
    r"headscale runs and is not healthy": r"\g<0>",
    # The program's warnings.
    r"the server at \S+ could not be asked over SSH": "the server could not be asked over SSH, so a deploy is planned",
    r"asking \S+ which of the configured and former SSH keys": "the server did not say which SSH keys it accepts",
    r"the server accepts the configured SSH keys": "the server accepts the configured SSH keys: the former ones can go",
    r"Hetzner has a (server|primary-ip|firewall|ssh-key) \S+ \(id": r"Hetzner has a \1 that the stack does not know",
    rf"Cloudflare has a record ({NAME}) (A|AAAA|CNAME) ": r"Cloudflare has a record \1 \2 that the stack does not know",
    r"the pre-auth key of \S+ was (revoked|deleted) on the server": r"a user's pre-auth key was \1 on the server",
    r"the user \S+ and its pre-auth key were deleted": "a user was deleted on the server, with its pre-auth key",
    r"headscale does not answer on the server": r"\g<0>",
    r"headscale:users no longer names": "headscale:users no longer names a user that headscale has",
    r"nix/flake\.lock pins the NixOS of [\d-]+, \d+ days old": r"\g<0>",
    r"headscale:adminNetworks is empty: anyone can reach SSH": r"\g<0>",
    r"headscale:(adminNetworks|uiAllowedNetworks): \S+ is ": r"headscale:\1 has an entry that no client comes from",
    r"headscale:extraRecords: \S+ is outside": "headscale:extraRecords has a record outside baseDomain",
    r"headscale:policyFile names what does not exist yet": r"\g<0>",
    r"headscale:policyFile: by now headscale refuses the policy that it serves": r"\g<0>",
    r"headscale:policyFile: headscale on the server (refuses it|gave no verdict)": r"\g<0>",
    rf"{NAME} is no longer served": r"\g<0>",
    r"(headscaleName|uiName|baseDomain|location|serverType): ": r"a change of headscale:\1 is not deployed yet",
    # Reasons why nothing can be compared.
    r"headscale:adminNetworks leaves out": "headscale:adminNetworks leaves out this machine",
    r"[a-z]+\d+ is sold out in [a-z]+\d? at Hetzner": r"\g<0>",
    r"the configuration cannot be used": r"\g<0>",
    r"(headscale:[A-Za-z]{1,40})(\[\d+\])?[: ]": r"\1 has a value that cannot be used",
    r"(HCLOUD|CLOUDFLARE_API)_TOKEN (is not set|has \d+ letters)": r"\g<0>",
    r"asking (Hetzner|Cloudflare) ": r"asking \1 failed",
    r".*unable to authenticate \(unauthorized\)": "Hetzner does not accept HCLOUD_TOKEN",
    r".*Hetzner Cloud API token was not found": "HCLOUD_TOKEN is not set",
    r".*: (401 Unauthorized|403 Forbidden)": r"a cloud does not accept its token: \1",
    r"the server \S+ is off": "the server is off",
    r"the server \S+ has no (ipv4|ipv6) address at Hetzner": r"the server has no \1 address at Hetzner",
    r".*(incorrect passphrase|the stack is currently locked|no stack named|passphrase must be set)": r"\1",
}
# A pre-auth key ends a day after it was made, by default; a new one is made when a device is to join. Pulumi's own
# last words say no more than the others.
ORDINARY = re.compile(r"the pre-auth key of \S+ is (expired|used up)|^error: preview failed$")


def resource(name: str) -> str:
    """The name of a resource as it may be read."""
    forms = (match.expand(form) for text, form in RESOURCES.items() if (match := re.fullmatch(text, name)))
    return next(forms, "a resource")


def properties(step: Mapping[str, object]) -> list[str]:
    """The names of the properties in which a resource differs, without what is in them."""
    differences = step.get("detailedDiff") or step.get("diffReasons") or ()
    assert isinstance(differences, Iterable)
    first = (re.match(r"[A-Za-z]\w*", str(path)) for path in differences)
    return sorted({match[0] for match in first if match})


def sentences(messages: Iterable[str]) -> Iterator[str]:
    """Each message in the form in which it may be read, once; at the end, how many have none."""
    published: dict[str, None] = {}
    hidden = 0
    for message in messages:
        forms = [form for line in message.splitlines() for form in _published(line)]
        hidden += not forms and not ORDINARY.search(message.strip())
        published |= dict.fromkeys(forms)
    yield from published
    if hidden:
        yield f"{hidden} more, in words that are not published"


def _published(line: str) -> Sequence[str]:
    words = re.sub(r"^\s*(warning: |error: )*\s*(drift: )?", "", line)
    forms = (match.expand(form) for text, form in SENTENCES.items() if (match := re.match(text, words)))
    return [*forms][:1]
