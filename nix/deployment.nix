# A deploy that is not confirmed is undone by a reboot, and what services tell the deploy agent (components/remote/activate.sh),
# each in its own file, by files of the system that is activated. The agent itself knows sshd alone.
#   deployment/before/NAME PREVIOUS SYSTEM   may refuse the system: with another status than 0, what it prints is the reason
#   deployment/data/NAME VERB DIRECTORY PREVIOUS SYSTEM   saves its data before the activation, stops what uses them and restores
#     them in a rollback (verbs save, stop, restore; restore also at a boot, where all of this is not yet started)
#   deployment/checks/NAME MEMORY   passes once the service works, within 60 s: status 1 is asked again, 2 is final; MEMORY is a
#     directory that is kept from one look to the next
#   deployment/after/NAME   repairs, after the switch, changes by hand that a switch does not repair
#   deployment/drift/NAME SYSTEM   prints a line for each change by hand since SYSTEM was deployed, which the next deploy repairs
#   deployment/warnings/NAME   prints a line for each thing that no deploy repairs
#   deployment/may-fail/NAME   regular expressions of units whose failure is not a reason to roll back
#   deployment/retry/NAME   lines of a unit that is started once more where it failed, and the unit whose log says why
{ lib, pkgs, ... }:
let
  undo = pkgs.writeShellApplication {
    name = "undo-deployment";
    runtimeInputs = [
      pkgs.coreutils
      pkgs.jq
    ];
    text = builtins.readFile ./undo-deployment.sh;
  };
  state = "/var/lib/deployment";
in
{
  environment.systemPackages = [ undo ];

  systemd.services.deployment-undo = {
    description = "Undo a deploy that was not confirmed before the reboot";
    wantedBy = [ "multi-user.target" ];
    # The second is made by each deploy and lost in a reboot: while a deploy is under way, there is nothing to undo.
    unitConfig.ConditionPathExists = [
      "${state}/pending.json"
      "!/run/deployment"
    ];
    restartIfChanged = false;
    serviceConfig = import ./sandbox.nix // {
      Type = "oneshot";
      ExecStart = "${lib.getExe undo} /run/booted-system";
      CapabilityBoundingSet = "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER";
      PrivateNetwork = true;
      ReadWritePaths = [ state ];
      RestrictAddressFamilies = "none";
      SystemCallFilter = "@system-service";
    };
  };

  # NixOS does not switch live to a system whose critical parts differ: such a one is booted once.
  systemd.services.deployment-trial = {
    description = "Check a system that had to be booted, and wait for its confirmation";
    wantedBy = [ "multi-user.target" ];
    after = [ "deployment-undo.service" ];
    unitConfig.ConditionPathExists = [
      "${state}/pending.json"
      "${state}/trial"
      "!/run/deployment"
    ];
    # The boot default is the previous system.
    unitConfig.FailureAction = "reboot";
    restartIfChanged = false;
    path = [
      pkgs.bash
      pkgs.jq
    ];
    serviceConfig.Type = "oneshot";
    serviceConfig.ExecStart = "${lib.getExe pkgs.bash} /etc/nixos/remote/deploy.sh trial";
  };
}
