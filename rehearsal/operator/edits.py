"""Changing the product's own nix/ as an operator would, seen by nobody outside the capsule."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rehearsal.operator.stack import PROGRAM
from rehearsal.sandbox.capsule import Run
from rehearsal.sandbox.processes import check

NIX = PROGRAM / "nix"
FAULTS = Path(__file__).parent.parent / "stories" / "faults"


def open_for_edits(run: Run) -> None:
    """From now on, what is written below nix/ lies in the run's directory; the checkout stays as it is."""
    upper, work = run.directory("nix/upper"), run.directory("nix/work")
    options = f"lowerdir={NIX},upperdir={upper},workdir={work}"
    check(["mount", "-t", "overlay", "-o", options, "overlay", str(NIX)])


@contextmanager
def laid_over(*modules: str, **data: Any) -> Iterator[None]:
    """While it lasts, the configuration also imports these modules of stories/faults/, which may read data.json."""
    configuration, own, faults = NIX / "configuration.nix", NIX / "its-configuration.nix", NIX / "faults"
    faults.mkdir()
    for path in (*(FAULTS / f"{module}.nix" for module in modules), *FAULTS.glob("*.sh")):
        shutil.copy(path, faults)
    (faults / "data.json").write_text(json.dumps(data))
    configuration.rename(own)
    shutil.copy(FAULTS / "configuration.nix", configuration)
    try:
        yield
    finally:
        own.replace(configuration)
        shutil.rmtree(faults)
