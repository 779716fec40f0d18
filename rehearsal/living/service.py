"""A living rehearsal from inside: one stack, a laptop and a phone, until somebody ends it.

What the person does in it (another `pulumi up`, a device that logs out) is not followed up here: a state or a place
is looked at when it is asked for.
"""

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from rehearsal.living import socket as door
from rehearsal.operator import stack
from rehearsal.people.devices import Device
from rehearsal.sandbox.capsule import Run
from rehearsal.server.machines import CONSOLE
from rehearsal.world import World, prepare, world

DEVICES = ("laptop", "phone")
PLACES = (*DEVICES, "server", "operator")


def live(run: Run, say: Callable[[str], None]) -> None:
    """Begin, and go on until a signal ends the process."""
    with world(run, prepare(say), say) as everything, ExitStack() as end:
        life = Life(everything)
        end.enter_context(door.opened(life.answer))
        everything.stack.lay_over_settings()
        say("pulumi up")
        everything.stack.up()
        life.outputs = everything.stack.outputs()
        life.devices = {name: end.enter_context(everything.device(name)) for name in DEVICES}
        say(f"{', '.join(DEVICES)} join")
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda device: device.join(life.outputs["joinCommand"]), life.devices.values()))
        life.ready = True
        while True:
            signal.pause()


class Life:
    """Answer a question: `state`, or the name of a place."""

    def __init__(self, everything: World) -> None:
        self._world = everything
        self.ready = False
        self.outputs: dict[str, Any] = {}
        self.devices: dict[str, Device] = {}

    def answer(self, question: str) -> dict[str, Any]:
        return self.state() if question == "state" else self.place(question)

    def state(self) -> dict[str, Any]:
        return {
            "ready": self.ready,
            "servers": {server.name: self._server(number) for number, server in self._servers().items()},
            "devices": {name: _connected(device) for name, device in self.devices.items()},
            "urls": [self.outputs[name] for name in ("headscaleUrl", "uiUrl") if name in self.outputs],
        }

    def _servers(self) -> dict[int, Any]:
        return dict(self._world.hetzner.project.servers)

    def _server(self, number: int) -> str:
        machine = self._world.machines[number]
        return f"{machine.spec.ipv4} {'off' if machine.process is None else 'on'}"

    def place(self, name: str) -> dict[str, Any]:
        """The command to put before another one to run it there, its directory and its environment."""
        if name in self.devices:
            device = self.devices[name]
            return {"argv": device.command([]), "directory": "/", "environment": dict(device.environment)}
        if name == "operator":
            settings = self._world.stack.environment | {"PULUMI_STACK": stack.NAME}
            return {"argv": [], "directory": str(stack.PROGRAM), "environment": settings}
        if name == "server":
            return {"argv": self._world.machines.shell(self._only_server()), "directory": "/", "environment": CONSOLE}
        raise LookupError(f"{name} is not there yet" if name in PLACES else f"there is no place {name!r}")

    def _only_server(self) -> int:
        servers = list(self._servers())
        if len(servers) != 1:
            raise LookupError(f"there are {len(servers)} servers; `pulumi up` makes one")
        return servers[0]


def _connected(device: Device) -> str:
    status = device.status()
    addresses = status["Self"]["TailscaleIPs"] or []
    return " ".join([status["BackendState"], *addresses])
