"""Stories of the rehearsal: each module holds one, and each is told in a world of its own."""

import importlib

from rehearsal.story import Story


def story(name: str) -> type[Story]:
    """The story that a module of this package tells."""
    module = importlib.import_module(f"{__name__}.{name}")
    story: type[Story]
    (story,) = (kind for kind in vars(module).values() if _is_own(kind, module.__name__))
    return story


def _is_own(kind: object, module: str) -> bool:
    return isinstance(kind, type) and issubclass(kind, Story) and kind.__module__ == module
