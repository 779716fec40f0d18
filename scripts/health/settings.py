"""The stack's settings as the checks need them; the program reads and judges them all, in config.py."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import rules
from offer import Order

from .lines import Unknown

T = TypeVar("T")
MISTAKE = "has a mistake in it: `pulumi preview` says which"


@dataclass(frozen=True)
class Settings:
    """`values` are those of `pulumi config`, by their full names, secrets in clear."""

    stack: str
    values: Mapping[str, Any]

    def get(self, key: str) -> str | None:
        """The value of a key with its namespace."""
        return self.values.get(key)

    def text(self, key: str) -> str:
        return self.get(f"headscale:{key}") or ""

    def need(self, key: str, rule: Callable[[str], T], default: str = "") -> T:
        """The value as `rule` has it; Unknown where it is not set or wrong, which the check of the keys tells."""
        try:
            return rule(self.text(key) or default)
        except (rules.Rejected, TypeError):
            raise Unknown(f"not looked at without a right headscale:{key}") from None

    def need_list(self, key: str, rule: Callable[[str], T]) -> list[T]:
        try:
            return [rule(item) for item in self.values.get(f"headscale:{key}") or []]
        except (rules.Rejected, TypeError):
            raise Unknown(f"headscale:{key} {MISTAKE}") from None

    @property
    def server_name(self) -> str:
        return f"{self.stack}-headscale"

    @property
    def names(self) -> Sequence[tuple[str, str]]:
        """All names that lead to the server, each with its zone."""
        domain = self.need("domain", rules.domain)
        zone = self.need("zone", rules.domain, domain)
        current = {"headscaleName": f"headscale.{domain}", "uiName": f"headscale-ui.{domain}"}
        names = [(self.need(key, rules.served_name, default), zone) for key, default in current.items()]
        former = self.need_list("formerHeadscaleNames", rules.former_name)
        return [*names, *((name.name, name.zone or zone) for name in former)]

    @property
    def order(self) -> Order:
        return Order(
            name=self.server_name,
            server_type=self.need("serverType", rules.server_type),
            location=self.need("location", rules.location),
            protect=self.text("protect") == "true",
        )

    @property
    def admin_networks(self) -> list[rules.Network]:
        return self.need_list("adminNetworks", rules.reachable_network)

    @property
    def secrets_file(self) -> Path:
        return Path(self.text("secretsFile") or f"nix/secrets/{self.stack}.yaml")
