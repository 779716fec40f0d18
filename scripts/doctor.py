"""Looks at all that a `pulumi up` needs, and changes nothing.

Each line is a thing that is ok, that fails, that is a warning, or that is not known because nothing shows it; below it
what to do. Asked are pulumi and its backend, sops, Hetzner's and Cloudflare's APIs, and, where headscale:adminNetworks
is set and --address is not given, a service that tells this machine's public address: its name is printed before.

The exit status is 1 where a line fails.
"""

import argparse
import os
import sys
from functools import partial
from ipaddress import ip_address
from pathlib import Path

from .commands import PROGRAM
from .health import address, cloudflare, hetzner, locks, programs, sops_file, stack
from .health.lines import Check, report
from .health.setup import Setup

CHECKS = {
    "Pulumi CLI": programs.pulumi,
    "Python packages": programs.packages,
    "sops": programs.sops,
    "backend": stack.backend,
    "stack": stack.stack,
    "passphrase": stack.passphrase,
    "configuration": stack.keys,
    "state": stack.state,
    "lock": locks.check,
    "SOPS file": sops_file.opened_by_server,
    "your age key": sops_file.opened_by_operator,
    "Hetzner's token": hetzner.token,
    "server type and location": hetzner.order,
    "leftovers at Hetzner": hetzner.leftovers,
    "Cloudflare's token": cloudflare.token,
    "zone": cloudflare.zones,
    "other records": cloudflare.records,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        "scripts/doctor", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--stack", help="the stack (default: the selected one)")
    parser.add_argument("--config-file", type=Path, help="its configuration (default: Pulumi.STACK.yaml)")
    parser.add_argument("--json", action="store_true", help="print the lines as JSON")
    parser.add_argument(
        "--address", type=ip_address, help="this machine's public address, so that no service is asked for it"
    )
    parser.add_argument(
        "--address-service", metavar="URL", default=address.SERVICE, help="who is asked for it (default: %(default)s)"
    )
    arguments = parser.parse_args()
    config_file = arguments.config_file and arguments.config_file.absolute()
    os.chdir(PROGRAM)
    setup = Setup(arguments.stack, config_file)
    checks: dict[str, Check] = {subject: partial(check, setup) for subject, check in CHECKS.items()}
    checks["your address"] = partial(address.check, setup, arguments.address, arguments.address_service)
    try:
        sys.exit(report(checks, arguments.json))
    except KeyboardInterrupt:
        raise SystemExit("scripts/doctor: interrupted") from None


if __name__ == "__main__":
    main()
