"""Tailscale's map of relays is refreshed on the server while devices use it; a refresh that fails costs nothing."""

import json

from rehearsal.people.devices import Device
from rehearsal.sandbox.wait import eventually
from rehearsal.story import HEADSCALE, JOIN_TIMEOUT, Story

UNIT, MAP = "derp-map.service", "/var/lib/derp-map/derp.yaml"
PUBLIC = "/usr/lib/rehearsal/vendor/tailscale.com/net/dnsfallback/dns-fallback-servers.json"
# What nginx serves over HTTPS from a directory that can be written to.
CHALLENGES = ".well-known/acme-challenge"
NEW_REGION = 42


class DerpMap(Story):
    """The way of Tailscale's map from its address to a device."""

    def tell(self) -> None:
        self.up()
        # Once an hour is too seldom to wait for.
        self.change_unit("headscale.service", "HEADSCALE_DERP_UPDATE_FREQUENCY=2s")
        self.world.host.restart("headscale.service")
        with self.joined("laptop") as (laptop,):
            self.no_way_out()
            self.new_map(laptop)

    def no_way_out(self) -> None:
        with self.report.step("a refresh that fails is seen, and changes nothing else") as line:
            before = self.map_and_headscale()
            assert self.refresh() != 0
            assert self.world.host.failed_units().startswith(UNIT)
            assert self.map_and_headscale() == before
            self.world.stack.preview("--expect-no-changes")
            line.note = self.world.host.run("journalctl", "--unit", UNIT, "--grep", "curl", "--output", "cat")

    def new_map(self, laptop: Device) -> None:
        with self.report.step("a new map reaches a device, and headscale is not restarted") as line:
            assert NEW_REGION not in self.regions(laptop)
            headscale = self.map_and_headscale()[1]
            self.publish()
            assert self.refresh() == 0, self.world.host.journal(UNIT)
            eventually(lambda: NEW_REGION in self.regions(laptop), f"region {NEW_REGION} on the device", JOIN_TIMEOUT)
            assert self.map_and_headscale()[1] == headscale
            line.note = f"{len(self.regions(laptop))} regions"

    def publish(self) -> None:
        """Let the unit find Tailscale's map, with one region more, at an address of the small internet."""
        regions = json.loads(self.world.host.read(PUBLIC))["Regions"]
        regions[str(NEW_REGION)] = next(iter(regions.values())) | {"RegionID": NEW_REGION}
        self.put(f"/var/lib/acme/acme-challenge/{CHALLENGES}/derp-map", json.dumps({"Regions": regions}))
        self.change_unit(UNIT, f"SOURCE=https://{HEADSCALE}/{CHALLENGES}/derp-map")

    def refresh(self) -> int:
        return self.world.host.attempt(["systemctl", "start", UNIT], timeout=180).returncode

    def regions(self, device: Device) -> set[int]:
        return {int(number) for number in json.loads(device.must(["tailscale", "debug", "derp-map"]))["Regions"]}

    def map_and_headscale(self) -> tuple[str, str]:
        """The map's digest, and the process number of headscale."""
        pid = self.world.host.run("systemctl", "show", "--property", "MainPID", "headscale.service")
        return self.world.host.run("sha256sum", MAP), pid

    def change_unit(self, unit: str, environment: str) -> None:
        self.put(f"/run/systemd/system/{unit}.d/story.conf", f"[Service]\nEnvironment={environment}\n")
        self.world.host.run("systemctl", "daemon-reload")

    def put(self, path: str, text: str) -> None:
        process = self.world.host.attempt(["install", "-D", "-m", "644", "/dev/stdin", path], text)
        assert process.returncode == 0, process.stderr
