# A deploy's check that NGINX serves a page of a host: the path of its program.
{
  lib,
  name,
  page,
  pkgs,
}:
lib.getExe (
  pkgs.writeShellApplication {
    name = "check-website";
    runtimeEnv = {
      NAME = name;
      PAGE = page;
    };
    runtimeInputs = [
      pkgs.curl
      pkgs.gnugrep
    ];
    text = builtins.readFile ./check-website.sh;
  }
)
