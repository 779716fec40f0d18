# A service that brings its own check and data. data.json says whether it works: a lantern that does not goes out.
{ lib, pkgs, ... }:
let
  lit = (builtins.fromJSON (builtins.readFile ./data.json)).lit;
  program =
    name:
    lib.getExe (
      pkgs.writeShellApplication {
        inherit name;
        runtimeEnv.LANTERN = if lit then "lit" else "out";
        runtimeInputs = [
          pkgs.coreutils
          pkgs.gnugrep
        ];
        text = builtins.readFile ./${name}.sh;
      }
    );
in
{
  environment.etc."deployment/checks/lantern".source = program "check-lantern";
  environment.etc."deployment/data/lantern".source = program "lantern-data";
  systemd.services.lantern = {
    wantedBy = [ "multi-user.target" ];
    serviceConfig.Type = "oneshot";
    serviceConfig.RemainAfterExit = true;
    serviceConfig.ExecStart = program "light-lantern";
    serviceConfig.StateDirectory = "lantern";
  };
}
