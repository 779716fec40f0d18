# What a deploy that was not confirmed leaves to the next boot: the system of before, and what must fit to it.
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
in
{
  environment.systemPackages = [ undo ];

  systemd.services.deployment-undo = {
    description = "Undo a deploy that was not confirmed before the reboot";
    wantedBy = [ "multi-user.target" ];
    before = [ "headscale.service" ];
    # The second is made by each deploy and lost in a reboot: while a deploy is under way, there is nothing to undo.
    unitConfig.ConditionPathExists = [
      "/var/lib/deployment/pending.json"
      "!/run/deployment"
    ];
    restartIfChanged = false;
    serviceConfig = import ./sandbox.nix // {
      Type = "oneshot";
      ExecStart = "${lib.getExe undo} /run/booted-system";
      CapabilityBoundingSet = "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER";
      PrivateNetwork = true;
      ReadWritePaths = [
        "/var/lib/deployment"
        "-/var/lib/headscale"
      ];
      RestrictAddressFamilies = "none";
      SystemCallFilter = "@system-service";
    };
  };
}
