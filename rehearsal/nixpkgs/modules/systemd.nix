# Units as systemd reads them, from the options that the configuration and the other modules set.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  strings = mkOption {
    type = types.listOf types.str;
    default = [ ];
  };
  unitNames = mkOption {
    type = types.listOf (
      types.strMatching "[a-zA-Z0-9@%:_.\\-]+[.](service|socket|device|mount|automount|swap|target|path|timer|scope|slice)"
    );
    default = [ ];
  };
  text = mkOption {
    type = types.lines;
    default = "";
  };
  yes = mkOption {
    type = types.bool;
    default = true;
  };
  no = mkOption {
    type = types.bool;
    default = false;
  };
  settings = mkOption {
    type = types.attrsOf types.systemdOption;
    default = { };
  };

  unit = {
    enable = yes;
    description = mkOption {
      type = types.singleLineStr;
      default = "";
    };
    after = unitNames;
    before = unitNames;
    bindsTo = unitNames;
    conflicts = unitNames;
    partOf = unitNames;
    requires = unitNames;
    wants = unitNames;
    wantedBy = unitNames;
    requiredBy = unitNames;
    unitConfig = settings;
    restartTriggers = mkOption {
      type = types.listOf types.unspecified;
      default = [ ];
    };
    reloadTriggers = mkOption {
      type = types.listOf types.systemdOption;
      default = [ ];
    };
    overrideStrategy = mkOption {
      type = types.enum [
        "asDropinIfExists"
        "asDropin"
      ];
      default = "asDropinIfExists";
    };
  };
  service = unit // {
    serviceConfig = settings;
    environment = mkOption {
      type = types.attrsOf (
        types.nullOr (
          types.oneOf [
            types.str
            types.path
            types.package
          ]
        )
      );
      default = { };
    };
    path = mkOption {
      type = types.listOf (types.either types.package types.str);
      default = [ ];
    };
    script = text;
    preStart = text;
    postStart = text;
    restartIfChanged = yes;
    reloadIfChanged = no;
    stopIfChanged = yes;
  };
  timer = unit // {
    timerConfig = settings;
  };

  unitSection =
    u:
    lib.units.section "Unit" (
      {
        Description = if u.description == "" then null else u.description;
        After = u.after;
        Before = u.before;
        BindsTo = u.bindsTo;
        Conflicts = u.conflicts;
        PartOf = u.partOf;
        Requires = u.requires;
        Wants = u.wants;
        X-Restart-Triggers = map (t: "${t}") u.restartTriggers;
        X-Reload-Triggers = map (t: "${t}") u.reloadTriggers;
      }
      // u.unitConfig
    );

  run =
    name: kind: body:
    if body == "" then null else "${pkgs.unitScript "${name}-${kind}" body}/bin/${name}-${kind}";
  always = with pkgs; [
    coreutils
    findutils
    gnugrep
    gnused
    systemd
  ];
  environment =
    s:
    s.environment
    // lib.optionalAttrs (s.overrideStrategy != "asDropin") {
      PATH = lib.concatMapStringsSep ":" (p: "${p}/bin:${p}/sbin") (s.path ++ always);
    };
  serviceText =
    name: s:
    unitSection s
    + lib.units.section "Service" (
      {
        Environment = lib.units.environment (lib.filterAttrs (_: v: v != null) (environment s));
        ExecStartPre = run name "pre-start" s.preStart;
        ExecStart = run name "start" s.script;
        ExecStartPost = run name "post-start" s.postStart;
        X-RestartIfChanged = if s.restartIfChanged then null else false;
        X-ReloadIfChanged = if s.reloadIfChanged then true else null;
        X-StopIfChanged = if s.stopIfChanged then null else false;
      }
      // s.serviceConfig
    );
  written = kind: text: u: {
    inherit (u)
      enable
      wantedBy
      requiredBy
      ;
    dropin = u.overrideStrategy == "asDropin";
    inherit text;
  };
  suffixed =
    kind: render: units:
    lib.mapAttrs' (name: u: lib.nameValuePair "${name}.${kind}" (written kind (render name u) u)) units;
  units =
    suffixed "service" serviceText config.systemd.services
    // suffixed "timer" (
      _: t: unitSection t + lib.units.section "Timer" t.timerConfig
    ) config.systemd.timers
    // suffixed "target" (_: unitSection) config.systemd.targets;
in
{
  options.systemd = {
    services = mkOption {
      type = types.attrsOf (types.submodule { options = service; });
      default = { };
    };
    timers = mkOption {
      type = types.attrsOf (types.submodule { options = timer; });
      default = { };
    };
    targets = mkOption {
      type = types.attrsOf (types.submodule { options = unit; });
      default = { };
    };
    tmpfiles.rules = strings;
  };

  config = {
    # Debian's, run when /usr is newer than /etc; NixOS has none of them.
    systemd.services =
      lib.genAttrs
        [
          "ldconfig"
          "systemd-journal-catalog-update"
          "systemd-sysusers"
          "systemd-update-done"
        ]
        (_: {
          enable = false;
        });
    environment.etc."systemd/system".source = pkgs.build {
      pname = "system-units";
      builder = ../system/units.sh;
      program = ../system/units.py;
      units = builtins.toJSON units;
      passAsFile = [ "units" ];
    };
    environment.etc."tmpfiles.d/00-nixos.conf".text = lib.concatLines config.systemd.tmpfiles.rules;
  };
}
