"""The base of all collections of the Hetzner API: list, get, update, and tell of their actions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from rehearsal.emulators.api import Handler, Json, Request, Response, Route, only, route
from rehearsal.emulators.hetzner import fields
from rehearsal.emulators.hetzner.actions import Action
from rehearsal.emulators.hetzner.lists import page
from rehearsal.emulators.hetzner.project import Project
from rehearsal.emulators.hetzner.resources import Resource, missing

R = TypeVar("R", bound=Resource)


class Catalog:
    """A collection that nobody can change."""

    def __init__(self, kind: str, items: Mapping[int, Json], shape: Callable[[Json], Json] = lambda item: item) -> None:
        self._kind, self._items, self._shape = kind, items, shape

    def routes(self) -> Sequence[Route]:
        return [route("GET", f"/{self._kind}", self.list), route("GET", f"/{self._kind}/{{id}}", self.get)]

    def list(self, request: Request) -> Response:
        return page(request, self._kind, map(self._shape, self._items.values()))

    def get(self, request: Request, id: str) -> Response:
        singular = self._kind.removesuffix("s")
        if not id.isdigit() or int(id) not in self._items:
            raise missing(singular, id)
        return Response({singular: self._shape(self._items[int(id)])})


class Collection(Generic[R]):
    kind: str

    def __init__(self, project: Project, items: Mapping[int, R]) -> None:
        self.project, self.items = project, items
        self.singular = self.kind.removesuffix("s")

    def shape(self, item: R) -> Json:
        return {"id": item.id, "name": item.name, "labels": dict(item.labels), "created": item.created}

    def routes(self) -> Sequence[Route]:
        return [
            route("GET", f"/{self.kind}", self.list),
            route("GET", f"/{self.kind}/{{id}}", self.get),
            route("PUT", f"/{self.kind}/{{id}}", self.update),
        ]

    def action_routes(self, actions: Mapping[str, Handler]) -> Sequence[Route]:
        return [
            *(route("POST", f"/{self.kind}/{{id}}/actions/{name}", do) for name, do in actions.items()),
            route("GET", f"/{self.kind}/actions", self.list_actions),
            route("GET", f"/{self.kind}/{{id}}/actions", self.list_actions),
        ]

    def find(self, id: str) -> R:
        item = self.items.get(int(id)) if id.isdigit() else None
        if item is None:
            raise missing(self.singular, id)
        return item

    def answer(self, item: R, status: int = 200, **more: object) -> Response:
        return Response({self.singular: self.shape(item), **more}, status)

    def list(self, request: Request) -> Response:
        return page(request, self.kind, map(self.shape, self.items.values()))

    def get(self, request: Request, id: str) -> Response:
        return self.answer(self.find(id))

    def update(self, request: Request, id: str) -> Response:
        item = self.find(id)
        only(request.body, ("name", "labels"), "field")
        self.rename(item, request.body)
        return self.answer(item)

    def rename(self, item: R, body: fields.Body) -> None:
        if body.get("name"):
            item.name = fields.name(body, self.items, itself=item)
        if body.get("labels") is not None:
            item.labels = fields.labels(body)
            # Firewalls may choose servers by label.
            self.project.sync_firewalls()

    def list_actions(self, request: Request, id: str | None = None) -> Response:
        actions = self.project.actions.of(self.singular, self.find(id).id if id else None)
        return page(request, "actions", [action.json() for action in actions])


def accepted(action: Action) -> Response:
    return Response({"action": action.json()}, 201)
