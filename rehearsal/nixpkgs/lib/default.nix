# The part of nixpkgs' lib that this project's configuration and these modules use.
let
  inherit (builtins)
    attrNames
    concatStringsSep
    elemAt
    filter
    fromJSON
    fromTOML
    length
    listToAttrs
    map
    readFile
    replaceStrings
    split
    stringLength
    substring
    ;
  modules = import ./modules.nix { inherit lib; };
  lib = {
    inherit (modules)
      declared
      evaluate
      mkAfter
      mkBefore
      mkDefault
      mkForce
      mkIf
      mkMerge
      mkOption
      ;
    inherit concatStringsSep filter;
    types = import ./types.nix { inherit lib modules; };
    units = import ./units.nix { inherit lib; };

    optional = condition: value: if condition then [ value ] else [ ];
    optionals = condition: values: if condition then values else [ ];
    optionalString = condition: text: if condition then text else "";
    optionalAttrs = condition: set: if condition then set else { };

    concatMapStringsSep =
      separator: f: values:
      concatStringsSep separator (map f values);
    concatLines = concatMapLines (line: line);
    concatMapAttrsLines = f: set: concatMapLines (name: f name set.${name}) (attrNames set);
    hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
    hasSuffix =
      suffix: text:
      stringLength suffix <= stringLength text
      && substring (stringLength text - stringLength suffix) (stringLength suffix) text == suffix;
    hasInfix = infix: text: length (split (escapeRegex infix) text) > 1;
    boolToString = value: if value then "true" else "false";

    genAttrs = names: f: listToAttrs (map (name: lib.nameValuePair name (f name)) names);
    nameValuePair = name: value: { inherit name value; };
    mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
    mapAttrs' = f: set: listToAttrs (lib.mapAttrsToList f set);
    filterAttrs =
      keep: set: listToAttrs (filter (p: keep p.name p.value) (lib.mapAttrsToList lib.nameValuePair set));
    filterAttrsRecursive =
      keep: set:
      builtins.mapAttrs (_: v: if builtins.isAttrs v then lib.filterAttrsRecursive keep v else v) (
        lib.filterAttrs keep set
      );
    fromHexString = text: (fromTOML "number = 0x${text}").number;
    unique = builtins.foldl' (seen: v: if builtins.elem v seen then seen else seen ++ [ v ]) [ ];
    findFirst =
      wanted: default: values:
      builtins.head (filter wanted values ++ [ default ]);
    last = values: elemAt values (length values - 1);

    importJSON = path: fromJSON (readFile path);
    getExe = package: "${package}/bin/${package.meta.mainProgram or package.pname}";
    getExe' = package: program: "${package}/bin/${program}";
  };
  concatMapLines = f: values: concatStringsSep "" (map (v: "${f v}\n") values);
  escapeRegex = replaceStrings [ "." ":" "/" ] [ "\\." ":" "/" ];
in
lib
