"""The DERP map: refreshed over TLS, never replaced by a bad one, read again by the real headscale."""

import json
import re
from typing import Any

import pytest
import yaml
from server_image import HERE, ServerImage, packaged_derp_map, sample_system

MAP = "/var/lib/derp-map/derp.yaml"
PUBLIC = "net/dnsfallback/dns-fallback-servers.json"


@pytest.fixture(scope="module")
def tailscales(server: ServerImage) -> dict[str, Any]:
    return json.loads(server.read(f"/usr/lib/rehearsal/vendor/tailscale.com/{PUBLIC}"))["Regions"]


def refreshed(server: ServerImage, *answers: Any) -> list[tuple[int, str, str]]:
    """The exit status, the error, and the map after each answer; the packaged map is there at first."""
    unit = server.unit(sample_system(), "derp-map.service")
    environment = dict(re.findall(r'^Environment="(CONVERTER)=(.*)"$', unit, re.MULTILINE))
    refresh = re.search(r"ExecStart=(\S+)", unit)
    assert refresh is not None
    server.put(MAP, packaged_derp_map())
    server.put("/walk.py", (HERE / "derp_map_walk.py").read_text())
    request = {"environment": {**environment, "MAP": MAP, "PATIENCE": "1"}, "answers": answers}
    return json.loads(server.output("python3", "/walk.py", refresh[1], stdin=json.dumps(request)))


def text(regions: Any) -> str:
    return json.dumps({"Regions": regions})


def changed(regions: dict[str, Any], **node: Any) -> dict[str, Any]:
    """The map with other fields in the first node of one region; None takes a field away."""
    number, region = next(iter(regions.items()))
    first, *others = region["Nodes"]
    complete = {name: value for name, value in (first | node).items() if value is not None}
    return regions | {number: region | {"Nodes": [complete, *others]}}


def test_a_new_map_takes_the_place_of_the_former(server: ServerImage, tailscales: dict[str, Any]):
    number, *_ = tailscales
    moved = {"RegionID": 42, "Latitude": 52, "Longitude": 13.4, "NotKnownToday": {"at": []}}
    new = {n: region for n, region in tailscales.items() if n != number} | {"42": tailscales[number] | moved}
    ((status, error, written),) = refreshed(server, (200, text(new), None))
    assert (status, error) == (0, "")
    regions = yaml.safe_load(written)["regions"]
    assert sorted(regions) == sorted(map(int, new))
    assert (regions[42]["latitude"], regions[42]["longitude"]) == (52, 13.4)
    assert regions[42]["nodes"][0]["hostname"] == tailscales[number]["Nodes"][0]["HostName"]


def test_a_bad_map_never_takes_the_place_of_a_good_one(server: ServerImage, tailscales: dict[str, Any]):
    number, region = next(iter(tailscales.items()))
    # Not the map in use: that it was not taken must be seen.
    good = text({n: each for n, each in tailscales.items() if n != number})
    few = dict(list(tailscales.items())[: len(tailscales) // 2 - 1])
    bad = {
        "a page": (200, "<html>Log in to this network</html>", None),
        "nothing": (200, "", None),
        "null": (200, "null", None),
        "a list": (200, "[]", None),
        "no regions": (200, text({}), None),
        "regions in a list": (200, text([region]), None),
        "cut off": (200, good[:-100], None),
        "broken off": (200, good[:-100], len(good)),
        "half of it missing": (200, text(few), None),
        "no number": (200, text(tailscales | {"x": region}), None),
        "our own region": (200, text(tailscales | {"999": region | {"RegionID": 999}}), None),
        "another number inside": (200, text(tailscales | {"77": region}), None),
        "a name that is none": (200, text(tailscales | {number: region | {"RegionName": 7}}), None),
        "no nodes": (200, text(tailscales | {number: region | {"Nodes": []}}), None),
        "nodes that are none": (200, text(tailscales | {number: region | {"Nodes": ["derp1.example.com"]}}), None),
        "a node without a name": (200, text(changed(tailscales, HostName=None)), None),
        "a node without an address": (200, text(changed(tailscales, IPv4=None, IPv6=None)), None),
        "an address that is none": (200, text(changed(tailscales, IPv4="104.248.8")), None),
        "a port that is none": (200, text(changed(tailscales, DERPPort="443")), None),
        "too large": (200, good + " " * 2**20, None),
        "moved": (302, "<html>Moved</html>", None),
        "an error": (500, good, None),
        "silence": None,
    }
    before = packaged_derp_map()
    for what, (status, error, written) in zip(bad, refreshed(server, *bad.values()), strict=True):
        assert written == before, what
        assert status != 0 and error != "", f"{what} was not told: {status} {error}"


def test_headscale_reads_a_new_map_without_a_restart(server: ServerImage, tailscales: dict[str, Any]):
    faster = '{ lib, ... }: { services.headscale.settings.derp.update_frequency = lib.mkForce "1s"; }'
    tree = server.tree("derp-map", faster)
    system = server.build(tree)
    server.output("mkdir", "-p", "/run/headscale", "/etc/headscale", "/var/lib/headscale")
    server.output("cp", f"{system}/etc/headscale/policy.hujson", "/etc/headscale/policy.hujson")
    settings = server.evaluate(tree, "services.headscale.settings")
    noise = {"private_key_path": "/var/lib/headscale/noise_private.key"}
    server.put("/headscale.json", json.dumps(settings | {"noise": noise}))
    ((_, _, new),) = refreshed(server, (200, text(dict(list(tailscales.items())[1:])), None))
    server.put("/walk.sh", (HERE / "derp_map_walk.sh").read_text())
    server.put(MAP, packaged_derp_map())
    before, after = server.output("bash", "/walk.sh", MAP, stdin=new).splitlines()
    missing, *_ = tailscales
    assert {missing, "999"} <= set(before.split())
    assert set(after.split()) == set(before.split()) - {missing}
