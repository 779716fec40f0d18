"""A program for tests: it makes the resources that resources.json beside it describes."""

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pulumi

CLASSES = {"command": "pulumi_command.remote.Command", "record": "pulumi_cloudflare.DnsRecord"}


def load(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def snake(values: dict[str, Any]) -> dict[str, Any]:
    return {re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", key): value for key, value in values.items()}


def make(name: str, resource: dict[str, Any]) -> Any:
    arguments = resource["arguments"]
    if connection := arguments.get("connection"):
        arguments["connection"] = load("pulumi_command.remote.ConnectionArgs")(**snake(connection))
    for key in resource.get("secret", []):
        arguments[key] = pulumi.Output.secret(arguments[key])
    options = pulumi.ResourceOptions(**resource.get("options", {}))
    return load(CLASSES[resource["kind"]])(name, **arguments, opts=options)


description = json.loads((Path(__file__).parent / "resources.json").read_text())
by_name = {name: make(name, resource) for name, resource in description["resources"].items()}
for output, (name, attribute) in description.get("exports", {}).items():
    pulumi.export(output, getattr(by_name[name], attribute))
if domain := description.get("zone"):
    cloudflare = importlib.import_module("pulumi_cloudflare")
    pulumi.export("zone", cloudflare.get_zone(filter={"name": domain}).zone_id)
    pulumi.export("zones", [zone.id for zone in cloudflare.get_zones(name=domain).results])
