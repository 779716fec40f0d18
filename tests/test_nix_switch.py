"""The stand-in's switch-to-configuration: which units stop, start, restart and reload."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SYSTEM = Path(__file__).parent.parent / "rehearsal/nixpkgs/system"
UNIT = "[Service]\nExecStart=/a\n"
RUNNING = {"same.service", "changed.service", "gone.service", "gentle.service", "stays.service", "told.service"}
RUNNING |= {"manual.timer", "account.target"}


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SYSTEM))
    spec = importlib.util.spec_from_file_location("switch", SYSTEM / "switch.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "switch", module)
    spec.loader.exec_module(module)
    return module


def plan(switch: ModuleType, before: dict[str, str], after: dict[str, str]) -> dict[str, set[str]]:
    old, new = ({n: switch.unitfiles.parse(text) for n, text in units.items()} for units in (before, after))
    switch_plan = switch.plan_for(old, new, RUNNING)
    return {verb: units for verb in ("stop", "start", "restart", "reload") if (units := getattr(switch_plan, verb))}


def test_an_equal_system_touches_nothing(switch: ModuleType):
    units = dict.fromkeys(RUNNING, UNIT)
    assert plan(switch, units, units) == {}


def test_another_description_touches_nothing(switch: ModuleType):
    assert plan(switch, {"same.service": f"Description=a\n{UNIT}"}, {"same.service": f"Description=b\n{UNIT}"}) == {}


def test_a_unit_that_was_removed_stops(switch: ModuleType):
    assert plan(switch, {"gone.service": UNIT}, {}) == {"stop": {"gone.service"}}


def test_a_changed_unit_stops_under_the_old_system_and_starts_under_the_new(switch: ModuleType):
    expected = {"stop": {"changed.service"}, "start": {"changed.service"}}
    assert plan(switch, {"changed.service": UNIT}, {"changed.service": UNIT + "User=b\n"}) == expected


@pytest.mark.parametrize(("says", "verb"), [("X-StopIfChanged=false", "restart"), ("X-ReloadIfChanged=true", "reload")])
def test_a_changed_unit_may_ask_for_less(switch: ModuleType, says: str, verb: str):
    after = {"gentle.service": f"{UNIT}{says}\n"}
    assert plan(switch, {"gentle.service": UNIT}, after) == {verb: {"gentle.service"}}


def test_a_changed_unit_may_refuse(switch: ModuleType):
    after = {"stays.service": f"{UNIT}X-RestartIfChanged=false\n"}
    assert plan(switch, {"stays.service": UNIT}, after) == {}


def test_a_reload_trigger_alone_reloads(switch: ModuleType):
    before, after = ({"told.service": f"{UNIT}X-Reload-Triggers={policy}\n"} for policy in "ab")
    assert plan(switch, before, after) == {"reload": {"told.service"}}


def test_a_unit_that_does_not_run_is_left_alone(switch: ModuleType):
    assert plan(switch, {"idle.service": UNIT}, {}) == {}


@pytest.mark.parametrize(("name", "says"), [("manual.timer", "X-OnlyManualStart=true\n"), ("account.target", "")])
def test_a_changed_target_or_a_unit_of_manual_start_is_left_alone(switch: ModuleType, name: str, says: str):
    assert plan(switch, {name: says}, {name: f"{says}After=a\n"}) == {}


@pytest.mark.parametrize(
    ("action", "permitted"), [("test", False), ("switch", False), ("check", False), ("boot", True)]
)
def test_an_inhibitor_that_changed_forbids_all_but_a_boot(
    switch: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    action: str,
    permitted: bool,
):
    """A name that only one system has forbids nothing, as in 26.05."""
    for name, inhibitors in (("old", '{"dbus": "dbus", "gone": "1"}'), ("new", '{"dbus": "broker", "new": "2"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "switch-inhibitors").write_text(inhibitors)
    monkeypatch.setattr(switch.inhibitors, "RUNNING", tmp_path / "old")
    assert switch.inhibitors.permit(tmp_path / "new", action) == permitted
    output = capfd.readouterr()
    assert ("dbus : dbus -> broker" in output.out) != permitted
    assert ("Pre-switch check 'switchInhibitors' failed" in output.err) != permitted
    monkeypatch.setenv("NIXOS_NO_CHECK", "1")
    assert switch.inhibitors.permit(tmp_path / "new", action)
