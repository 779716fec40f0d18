# A type checks one value and merges the definitions that are left of an option.
{ lib, modules }:
let
  inherit (builtins)
    all
    concatLists
    concatMap
    concatStringsSep
    elem
    filter
    head
    isAttrs
    isBool
    isFloat
    isInt
    isList
    isPath
    isString
    listToAttrs
    map
    toJSON
    ;
  inherit (modules) namesIn select valueOf;

  isDerivation = value: isAttrs value && value.type or null == "derivation";
  isPathLike = value: isPath value || isDerivation value || (isString value && lib.hasPrefix "/" value);

  shown =
    value:
    if isString value || isBool value || isInt value || isFloat value || value == null then
      toJSON value
    else
      "a ${builtins.typeOf value}";

  check =
    type: where: definitions:
    let
      wrong = filter (d: !type.check d.value) definitions;
      first = head wrong;
    in
    if wrong == [ ] then
      definitions
    else
      throw "A definition for option `${modules.shown where}' is not of type `${type.name}': ${shown first.value} (${first.file})";

  # A type of which several definitions must agree.
  atom =
    name: isOne:
    let
      type = {
        inherit name;
        check = isOne;
        merge =
          where: definitions:
          let
            values = map (d: d.value) (check type where definitions);
          in
          if all (v: v == head values) values then
            head values
          else
            throw "The option `${modules.shown where}' has conflicting definitions: ${
              concatStringsSep ", " (map (d: "${shown d.value} (${d.file})") definitions)
            }";
      };
    in
    type;

  types = {
    bool = atom "boolean" isBool;
    int = atom "signed integer" isInt;
    float = atom "floating point number" isFloat;
    unsigned = atom "unsigned integer" (v: isInt v && v >= 0);
    port = atom "16 bit unsigned integer" (v: isInt v && v >= 0 && v <= 65535);
    str = atom "string" isString;
    path = atom "absolute path" isPathLike;
    package = atom "package" (v: isDerivation v || (isPathLike v && lib.hasPrefix builtins.storeDir (toString v)));
    raw = atom "raw value" (_: true);
    enum = values: atom "one of ${concatStringsSep ", " (map shown values)}" (v: elem v values);
    matching = name: pattern: atom name (v: isString v && builtins.match pattern v != null);

    lines = {
      name = "strings concatenated with \"\\n\"";
      check = isString;
      merge = where: definitions: concatStringsSep "\n" (map (d: d.value) (check types.lines where definitions));
    };

    nullOr = type: {
      name = "null or ${type.name}";
      check = v: v == null || type.check v;
      merge =
        where: definitions:
        if all (d: d.value == null) definitions then
          null
        else
          type.merge where (check (types.nullOr type) where definitions);
    };

    either = a: b: {
      name = "${a.name} or ${b.name}";
      check = v: a.check v || b.check v;
      merge =
        where: definitions:
        if all (d: a.check d.value) definitions then
          a.merge where definitions
        else
          b.merge where (check (types.either a b) where definitions);
    };
    oneOf = choices: builtins.foldl' types.either (head choices) (builtins.tail choices);

    listOf = type: {
      name = "list of ${type.name}";
      check = isList;
      merge =
        where: definitions:
        let
          element =
            file: value:
            valueOf where type [
              {
                inherit file value;
              }
            ];
        in
        concatMap (d: map (element d.file) d.value) (check (types.listOf type) where definitions);
    };

    attrsOf = type: {
      name = "attribute set of ${type.name}";
      check = isAttrs;
      merge =
        where: definitions:
        let
          checked = check (types.attrsOf type) where definitions;
          names = lib.unique (concatMap (d: namesIn d.value) checked);
          selected = name: concatMap (select name) checked;
          present = filter (name: modules.strongest (selected name) != [ ]) names;
        in
        listToAttrs (
          map (name: {
            inherit name;
            value = valueOf (where ++ [ name ]) type (selected name);
          }) present
        );
    };

    submodule = module: {
      name = "submodule";
      check = isAttrs;
      merge =
        where: definitions:
        (modules.evaluate {
          inherit where;
          modules = [ module ];
          definitions = check (types.submodule module) where definitions;
          arguments.name = lib.last where;
        }).config;
    };

    # What JSON, YAML and the like can say.
    data = {
      name = "data (null, bool, number, string, path, list or attribute set)";
      check = v: v == null || isBool v || isInt v || isFloat v || isString v || isPathLike v || isList v || isAttrs v;
      merge =
        where: definitions:
        if all (d: isAttrs d.value && !isDerivation d.value) definitions then
          (types.attrsOf types.data).merge where definitions
        else if all (d: isList d.value) definitions then
          (types.listOf types.data).merge where definitions
        else
          (atom types.data.name types.data.check).merge where definitions;
    };
  };
in
types
