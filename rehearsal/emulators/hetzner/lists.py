"""Lists of the Hetzner API: filters by field, label selectors, sorting, pages with their `meta`."""

from collections.abc import Iterable

from rehearsal.emulators.api import Json, NotModelled, Request, Response
from rehearsal.emulators.hetzner import labels
from rehearsal.emulators.hetzner.resources import invalid

# include_deprecated changes nothing: the catalog has nothing deprecated.
_NOT_FIELDS = ("page", "per_page", "sort", "label_selector", "include_deprecated")


def page(request: Request, key: str, items: Iterable[Json]) -> Response:
    rows = _selected(request, _filtered(request, list(items)))
    for by in reversed(request.query.get("sort", ["id"])):
        field, _, order = by.partition(":")
        if any(field not in row for row in rows):
            raise invalid("sort", f"cannot sort by {field!r}")
        rows.sort(key=lambda row: row[field] or "", reverse=order == "desc")
    number, size = _number(request, "page", 1), min(_number(request, "per_page", 25), 50)
    return Response({key: rows[(number - 1) * size : number * size], "meta": _meta(number, size, len(rows))})


def _filtered(request: Request, rows: list[Json]) -> list[Json]:
    for field, values in request.query.items():
        if field in _NOT_FIELDS:
            continue
        if any(field not in row for row in rows):
            raise NotModelled(f"filter {field}")
        rows = [row for row in rows if str(row[field]) in values]
    return rows


def _selected(request: Request, rows: list[Json]) -> list[Json]:
    for text in request.query.get("label_selector", ()):
        try:
            chooses = labels.selector(text)
        except ValueError as error:
            raise invalid("label_selector", str(error)) from error
        rows = [row for row in rows if chooses(row["labels"])]
    return rows


def _number(request: Request, name: str, default: int) -> int:
    text = request.query.get(name, [str(default)])[0]
    if not text.isdigit() or int(text) < 1:
        raise invalid(name, f"{text!r} is not a positive number")
    return int(text)


def _meta(number: int, size: int, total: int) -> Json:
    last = max(1, -(-total // size))
    return {
        "pagination": {
            "page": number,
            "per_page": size,
            "previous_page": number - 1 if number > 1 else None,
            "next_page": number + 1 if number < last else None,
            "last_page": last,
            "total_entries": total,
        }
    }
