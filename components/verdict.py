"""headscale's verdict on the configured policy, asked on the server: remote/judge-policy.sh."""

from collections.abc import Iterator
from typing import NamedTuple

TAKEN, REFUSED, NOT_YET, NO_ANSWER = 0, 1, 2, 3
PUT_RIGHT = "`headscale policy check --file FILE` on the server checks another one"


class Verdict(NamedTuple):
    """The status of remote/judge-policy.sh, any other than those above being no answer, and headscale's own words."""

    status: int | None = NO_ANSWER
    words: str = ""

    def refusal(self, changed: bool) -> str:
        """The reason not to deploy the policy; empty where there is none. `changed`: another policy is served now."""
        if self.status != REFUSED or not changed:
            return ""
        return f"headscale:policyFile: headscale on the server refuses it: {self.words}. {PUT_RIGHT}"

    def warnings(self, changed: bool) -> Iterator[str]:
        """Warnings of a policy that may be deployed."""
        if self.status == NOT_YET:
            yield f"headscale:policyFile names what does not exist yet, so its tests do not run: {self.words}"
        elif self.status == REFUSED:
            yield f"headscale:policyFile: by now headscale refuses the policy that it serves: {self.words}"
        elif self.status != TAKEN and changed:
            yield f"headscale:policyFile: headscale on the server gave no verdict: {self.words}"
