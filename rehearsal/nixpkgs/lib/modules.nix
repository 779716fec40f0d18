# Options are declared, definitions merge by type, the unknown is an error.
# A definition is { file, value }; its value may still be wrapped in conditions, priorities and orders.
{ lib }:
let
  inherit (builtins)
    attrNames
    concatLists
    concatMap
    filter
    foldl'
    isAttrs
    isFunction
    isPath
    map
    mapAttrs
    sort
    ;
  wrapped = kind: value: isAttrs value && value._type or null == kind;
  isOption = wrapped "option";
  optionalValue = condition: value: if condition then [ value ] else [ ];

  # The definitions of `name` inside a definition, with what it is wrapped in pushed down unevaluated.
  select =
    name: definition:
    let
      inherit (definition) file value;
      inside = map (d: d.value) (
        select name {
          inherit file;
          value = value.content;
        }
      );
      again = content: {
        inherit file;
        value = value // {
          inherit content;
        };
      };
    in
    if wrapped "if" value || wrapped "override" value || wrapped "order" value then
      map again inside
    else if wrapped "merge" value then
      concatMap (
        content:
        select name {
          inherit file;
          value = content;
        }
      ) value.contents
    else
      map (v: {
        inherit file;
        value = v;
      }) (optionalValue (value ? ${name}) value.${name});

  namesIn =
    value:
    if wrapped "if" value || wrapped "override" value || wrapped "order" value then
      namesIn value.content
    else if wrapped "merge" value then
      concatMap namesIn value.contents
    else
      attrNames value;

  resolve =
    context@{ priority, order }:
    { file, value, ... }:
    let
      deeper =
        change: content:
        resolve (context // change) {
          inherit file;
          value = content;
        };
    in
    if wrapped "if" value then
      concatLists (optionalValue value.condition (deeper { } value.content))
    else if wrapped "merge" value then
      concatMap (deeper { }) value.contents
    else if wrapped "override" value then
      deeper { inherit (value) priority; } value.content
    else if wrapped "order" value then
      deeper { inherit (value) order; } value.content
    else
      [ (context // { inherit file value; }) ];

  # What is left of the definitions when conditions are decided and only the strongest priority counts.
  strongest =
    definitions:
    let
      all = concatMap (resolve {
        priority = 100;
        order = 1000;
      }) definitions;
      best = foldl' (a: d: if d.priority < a then d.priority else a) 9999 all;
    in
    sort (a: b: a.order < b.order) (filter (d: d.priority == best) all);

  valueOf =
    where: type: definitions:
    type.merge where (strongest definitions);

  optionValue =
    where: option: definitions:
    let
      fallback = {
        file = "its default";
        value = mkOverride 1500 option.default;
      };
      defined = strongest (definitions ++ optionalValue (option ? default) fallback);
    in
    if option.readOnly or false && definitions != [ ] && option ? default then
      throw "The option `${shown where}' is read-only (${(builtins.head definitions).file})"
    else if defined == [ ] then
      throw "The option `${shown where}' was accessed but has no value defined"
    else
      option.type.merge where defined;

  # Where an option is, for a person to read.
  shown = builtins.concatStringsSep ".";

  # Every option that is declared below `where`, each { path, type }.
  declared =
    where: options:
    concatMap (
      name:
      let
        option = options.${name};
        here = where ++ [ name ];
        itself = {
          path = shown here;
          type = option.type.name;
        };
      in
      if isOption option then [ itself ] ++ option.type.below here else declared here option
    ) (attrNames options);

  # A tree of options and the definitions for it become a tree of values.
  build =
    {
      where,
      options,
      freeform ? null,
      definitions,
    }:
    let
      unknown = filter (d: d.names != [ ]) (
        map (d: {
          inherit (d) file;
          names = filter (name: !options ? ${name}) (namesIn d.value);
        }) definitions
      );
      first = builtins.head unknown;
      value =
        name: option:
        let
          selected = concatMap (select name) definitions;
        in
        if isOption option then
          optionValue (where ++ [ name ]) option selected
        else
          build {
            where = where ++ [ name ];
            options = option;
            inherit freeform;
            definitions = selected;
          };
      known = mapAttrs value options;
      free = (freeform.merge where (strongest (map (without (attrNames options)) definitions)));
    in
    if unknown == [ ] then
      known
    else if freeform != null then
      free // known
    else
      throw "The option `${
        shown (where ++ [ (builtins.head first.names) ])
      }' does not exist in the rehearsal's nixpkgs (${first.file})";

  without =
    names:
    { file, value, ... }:
    {
      inherit file;
      value =
        if isAttrs value && value ? _type then
          value
          // (
            if value ? contents then
              {
                contents = map (
                  content:
                  (without names {
                    inherit file;
                    value = content;
                  }).value
                ) value.contents;
              }
            else
              {
                content =
                  (without names {
                    inherit file;
                    value = value.content;
                  }).value;
              }
          )
        else
          removeAttrs value names;
    };

  reversed = foldl' (found: value: [ value ] ++ found) [ ];
  merged = foldl' mergeOptions { };
  mergeOptions =
    a: b:
    a
    // mapAttrs (
      name: option:
      if a ? ${name} && !isOption option && !isOption a.${name} then
        mergeOptions a.${name} option
      else
        option
    ) b;

  evaluate =
    {
      where ? [ ],
      modules,
      definitions ? [ ],
      arguments ? { },
    }:
    let
      flat = collect (map (load "a module without a file") modules);
      options = merged (map (m: m.options) flat);
      config = build {
        inherit where options;
        freeform = foldl' (a: m: if m.freeform != null then m.freeform else a) null flat;
        # nixpkgs' order: what is imported comes before what imports it, and the last before the first.
        definitions = reversed (
          map (m: {
            inherit (m) file;
            value = m.config;
          }) flat
          ++ definitions
        );
      };
      # Level by level.
      collect =
        level:
        if level == [ ] then [ ] else level ++ collect (concatMap (m: map (load m.file) m.imports) level);
      load =
        file: module:
        let
          isFile = isPath module || builtins.isString module;
          here = if isFile then baseNameOf module else file;
          source = if isFile then import module else module;
          body =
            if isFunction source then
              source (
                arguments
                // {
                  inherit config lib;
                }
              )
            else
              source;
          explicit = body ? config || body ? options || body ? freeformType;
        in
        {
          file = here;
          imports = body.imports or [ ];
          options = body.options or { };
          freeform = body.freeformType or null;
          config =
            if explicit then
              body.config or { }
            else
              removeAttrs body [
                "imports"
                "_file"
              ];
        };
    in
    {
      inherit config options;
    };

  mkOverride = priority: content: {
    _type = "override";
    inherit priority content;
  };
  mkOrder = order: content: {
    _type = "order";
    inherit order content;
  };
in
{
  inherit
    declared
    evaluate
    isOption
    namesIn
    select
    shown
    strongest
    valueOf
    ;
  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  mkMerge = contents: {
    _type = "merge";
    inherit contents;
  };
  mkAfter = mkOrder 1500;
  mkBefore = mkOrder 500;
  mkDefault = mkOverride 1000;
  mkForce = mkOverride 50;
  mkOption = option: option // { _type = "option"; };
}
