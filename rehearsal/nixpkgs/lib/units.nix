# systemd's files from attribute sets.
{ lib }:
let
  inherit (builtins)
    concatStringsSep
    isBool
    isList
    map
    ;
  text = value: if isBool value then lib.boolToString value else toString value;
  setting =
    name: value:
    if value == null then
      [ ]
    else
      map (v: "${name}=${text v}") (if isList value then value else [ value ]);
in
rec {
  section =
    name: settings:
    let
      lines = builtins.concatLists (lib.mapAttrsToList setting settings);
    in
    lib.optionalString (lines != [ ]) "[${name}]\n${concatStringsSep "\n" lines}\n\n";

  sections = set: concatStringsSep "" (lib.mapAttrsToList section set);

  environment = variables: lib.mapAttrsToList (name: value: "\"${name}=${value}\"") variables;
}
