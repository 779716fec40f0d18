"""Turns Tailscale's DERP map (JSON on stdin) into headscale's YAML: keys in lower case, regions by number."""

import json
import sys
from typing import Any


def lowered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key.lower(): lowered(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [lowered(inner) for inner in value]
    return value


def main() -> None:
    regions = lowered(json.load(sys.stdin))["regions"]
    if not regions:
        raise SystemExit("derp-map: the map has no regions")
    print("regions:")
    # YAML knows JSON's values as they are; only a number as a key must stand without quotes.
    for number in sorted(regions, key=int):
        print(f"  {int(number)}: {json.dumps(regions[number])}")


if __name__ == "__main__":
    main()
