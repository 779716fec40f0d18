{ lib, ... }:
{
  networking.firewall.extraInputRules = lib.mkBefore "tcp dport 22 drop";
}
