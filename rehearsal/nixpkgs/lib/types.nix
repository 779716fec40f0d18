# A type checks one value and merges the definitions that are left of an option.
{ lib, modules }:
let
  inherit (builtins)
    all
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
  isPathLike =
    value: isPath value || isDerivation value || (isString value && lib.hasPrefix "/" value);

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

  # A part of a type's name, in parentheses unless its class reads well without; the words and classes are nixpkgs'.
  phrase = classes: type: if elem type.class classes then type.name else "(${type.name})";

  # A type of which several definitions must agree.
  atom = name: class: isOne: {
    inherit name class;
    check = isOne;
    below = _: [ ];
    merge =
      where: definitions:
      let
        values = map (d: d.value) (check (atom name class isOne) where definitions);
      in
      if all (v: v == head values) values then
        head values
      else
        throw "The option `${modules.shown where}' has conflicting definitions: ${
          concatStringsSep ", " (map (d: "${shown d.value} (${d.file})") definitions)
        }";
  };
  noun = name: atom name "noun";

  types = {
    bool = noun "boolean" isBool;
    int = noun "signed integer" isInt;
    float = noun "floating point number" isFloat;
    unsigned = atom "unsigned integer, meaning >=0" null (v: isInt v && v >= 0);
    # In nixpkgs its description is of one piece, and stands in parentheses beside others.
    positive = atom "positive integer, meaning >0" null (v: isInt v && v > 0);
    port = noun "16 bit unsigned integer; between 0 and 65535 (both inclusive)" (
      v: isInt v && v >= 0 && v <= 65535
    );
    str = noun "string" isString;
    singleLineStr = noun "(optionally newline-terminated) single-line string" (
      v: isString v && builtins.match "[^\n]*\n?" v != null
    );
    path = noun "absolute path" isPathLike;
    package = noun "package" (
      v: isDerivation v || (isPathLike v && lib.hasPrefix builtins.storeDir (toString v))
    );
    attrs = atom "attribute set" null isAttrs;
    iniAtom =
      types.nullOr (
        types.oneOf [
          types.bool
          types.int
          types.float
          types.str
        ]
      )
      // {
        name = "INI/keyvalue atom (null, bool, int, float or string)";
        class = null;
      };
    systemdOption = types.data // {
      name = "systemd option";
    };
    unspecified = noun "unspecified value" (_: true);
    enum =
      values: atom "one of ${concatStringsSep ", " (map shown values)}" "conjunction" (v: elem v values);
    strMatching =
      pattern:
      types.checked "string matching the pattern ${pattern}" "noun" (
        v: builtins.match pattern v != null
      ) types.str;
    # Another type's values, fewer of them, under a name of their own.
    checked =
      name: class: holds: type:
      type
      // {
        inherit name class;
        check = v: type.check v && holds v;
        merge =
          where: definitions:
          type.merge where (check (types.checked name class holds type) where definitions);
      };

    lines = {
      name = "strings concatenated with \"\\n\"";
      class = "noun";
      check = isString;
      below = _: [ ];
      merge =
        where: definitions: concatStringsSep "\n" (map (d: d.value) (check types.lines where definitions));
    };

    nullOr = type: {
      name = "null or ${phrase [ "noun" "conjunction" ] type}";
      class = "conjunction";
      inherit (type) below;
      check = v: v == null || type.check v;
      merge =
        where: definitions:
        if all (d: d.value == null) definitions then
          null
        else
          type.merge where (check (types.nullOr type) where definitions);
    };

    either = a: b: {
      name = "${phrase [ "noun" "conjunction" ] a} or ${phrase [ "noun" "conjunction" "composite" ] b}";
      class = "conjunction";
      below = where: a.below where ++ b.below where;
      check = v: a.check v || b.check v;
      merge =
        where: definitions:
        if all (d: a.check d.value) definitions then
          a.merge where definitions
        else
          b.merge where (check (types.either a b) where definitions);
    };
    nonEmptyListOf =
      type:
      types.checked "non-empty (${(types.listOf type).name})" null (v: v != [ ]) (types.listOf type);
    oneOf = choices: builtins.foldl' types.either (head choices) (builtins.tail choices);

    listOf = type: {
      name = "list of ${phrase [ "noun" "composite" ] type}";
      class = "composite";
      below = where: type.below (where ++ [ "*" ]);
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
      name = "attribute set of ${phrase [ "noun" "composite" ] type}";
      class = "composite";
      below = where: type.below (where ++ [ "<name>" ]);
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

    submodule =
      module:
      let
        evaluated =
          where: definitions:
          modules.evaluate {
            inherit where definitions;
            modules = [ module ];
            arguments.name = lib.last where;
          };
      in
      {
        name = if module ? freeformType then "open submodule" else "submodule";
        class = null;
        below = where: modules.declared where (evaluated where [ ]).options;
        check = isAttrs;
        merge =
          where: definitions: (evaluated where (check (types.submodule module) where definitions)).config;
      };

    # What JSON, YAML and the like can say.
    data = {
      name = "data (null, bool, number, string, path, list or attribute set)";
      class = null;
      below = _: [ ];
      check =
        v:
        v == null
        || isBool v
        || isInt v
        || isFloat v
        || isString v
        || isPathLike v
        || isList v
        || isAttrs v;
      merge =
        where: definitions:
        if all (d: isAttrs d.value && !isDerivation d.value) definitions then
          (types.attrsOf types.data).merge where definitions
        else if all (d: isList d.value) definitions then
          (types.listOf types.data).merge where definitions
        else
          (atom types.data.name null types.data.check).merge where definitions;
    };
  };
in
types
