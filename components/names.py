"""The names that a stack serves, and the cost of changing them, told beforehand."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rules import FormerName

from .host_facts import HostFacts

BRING_OVER = (
    "`tailscale up --force-reauth --login-server https://{} --auth-key KEY` on a device makes it use the new name"
)


@dataclass(frozen=True, kw_only=True)
class Names:
    """headscale's name, former ones that devices still use, the web interface's, and the MagicDNS domain."""

    headscale: str
    former: Sequence[FormerName]
    ui: str
    base_domain: str

    @property
    def served(self) -> tuple[str, ...]:
        """All names that lead to the server, headscale's first."""
        return self.headscale, self.ui, *(former.name for former in self.former)

    def data(self) -> dict[str, Any]:
        """The names as nix/deployment.json has them."""
        return {
            "headscaleName": self.headscale,
            "formerHeadscaleNames": [former.name for former in self.former],
            "uiName": self.ui,
            "baseDomain": self.base_domain,
        }

    def warnings(self, facts: HostFacts) -> Iterator[str]:
        """Warnings of what the change from the names that the host serves costs."""
        served = facts.names
        if not served:
            return
        for name in facts.devices:
            if name not in self.served:
                yield _given_up(name, facts.devices[name], len(self.former))
        if self.headscale != served["headscaleName"]:
            yield (
                f"headscaleName: devices join by {self.headscale} from now on. headscale restarts, and connected "
                "devices come back within a minute"
            )
        yield from self._smaller_warnings(served)

    def _smaller_warnings(self, served: Mapping[str, Any]) -> Iterator[str]:
        if self.ui != served["uiName"]:
            yield (
                f"uiName: the web interface and the API move to {self.ui}; {served['uiName']} no longer answers. "
                "Devices are not affected"
            )
        if self.base_domain != served["baseDomain"]:
            yield (
                f"baseDomain: MagicDNS names end in {self.base_domain} from now on, and names in "
                f"{served['baseDomain']} no longer resolve. headscale restarts, and connected devices come back "
                "within a minute"
            )

    def still_used(self, facts: HostFacts) -> Iterator[str]:
        """Lines that tell how many devices are connected by each former name."""
        for name in (former.name for former in self.former):
            if name in facts.devices:
                use = BRING_OVER.format(self.headscale)
                yield f"formerHeadscaleNames: {_devices(facts.devices[name])} connected by {name}; {use}"


def _given_up(name: str, connected: int, index: int) -> str:
    keep = f"`pulumi config set --path 'headscale:formerHeadscaleNames[{index}]' {name}`"
    return (
        f"{name} is no longer served: {_devices(connected)} connected by it, and every device that joined by it, also "
        f"one that is off now, stays offline until it joins again by hand. {keep} keeps serving it"
    )


def _devices(count: int) -> str:
    return "1 device is" if count == 1 else f"{count} devices are"
