# Packages are links to programs of the Debian container; what is built is built by Debian's tools.
{ system }:
let
  lib = import ../lib;
  inherit (builtins) functionArgs intersectAttrs map;

  # A derivation whose builder is a shell script and whose other attributes are its environment.
  build =
    {
      pname,
      version ? "",
      meta ? { },
      builder,
      path ? [ ],
      ...
    }@attributes:
    let
      environment = removeAttrs attributes [
        "builder"
        "meta"
        "path"
        "pname"
        "version"
      ];
    in
    derivation (
      environment
      // {
        name = pname + lib.optionalString (version != "") "-${version}";
        inherit system;
        builder = "/bin/sh";
        args = [
          "-eu"
          builder
        ];
        PATH = builtins.concatStringsSep ":" (
          map (p: "${p}/bin") path
          ++ [
            "/usr/bin"
            "/usr/sbin"
          ]
        );
      }
    )
    // {
      inherit pname version meta;
    };

  debian =
    pname: names: mainProgram:
    build {
      inherit pname names;
      builder = ./builders/debian.sh;
      meta = { inherit mainProgram; };
    };

  rehearsed =
    pname: programs:
    build {
      inherit pname programs;
      builder = ./builders/rehearsed.sh;
      meta.mainProgram = pname;
    };

  write =
    {
      name,
      text,
      executable ? false,
      destination ? "",
    }:
    build {
      pname = name;
      inherit text executable destination;
      passAsFile = [ "text" ];
      builder = ./builders/write.sh;
      meta.mainProgram = name;
    };

  packages = {
    inherit lib system build;
    callPackage = function: arguments: call (import function) arguments;

    apparmor-parser = debian "apparmor-parser" [ "apparmor" ] "apparmor_parser";
    audit = debian "audit" [ "auditd" ] "auditd";
    bash = debian "bash" [ "bash" ] "bash";
    coreutils = debian "coreutils" [ "coreutils" ] "coreutils";
    curl = debian "curl" [ "curl" ] "curl";
    diffutils = debian "diffutils" [ "diffutils" ] "diff";
    fail2ban = debian "fail2ban" [ "fail2ban" ] "fail2ban-client";
    findutils = debian "findutils" [ "findutils" ] "find";
    gnugrep = debian "gnugrep" [ "grep" ] "grep";
    gnused = debian "gnused" [ "sed" ] "sed";
    grub2 = debian "grub2" [ "grub-common" ] "grub-editenv";
    iproute2 = debian "iproute2" [ "iproute2" ] "ip";
    jq = debian "jq" [ "jq" ] "jq";
    lego = debian "lego" [ "lego" ] "lego";
    mkpasswd = debian "mkpasswd" [ "whois" ] "mkpasswd";
    nftables = debian "nftables" [ "nftables" ] "nft";
    nginx = debian "nginx" [ "nginx" ] "nginx";
    openssh = debian "openssh" [ "openssh-server" "openssh-client" ] "ssh";
    openssl = debian "openssl" [ "openssl" ] "openssl";
    python3 = debian "python3" [ "python3-minimal" "python3.13-minimal" ] "python3";
    sqlite = debian "sqlite" [ "sqlite3" ] "sqlite3";
    systemd = debian "systemd" [ "systemd" "systemd-sysv" "systemd-resolved" ] "systemctl";
    tailscale.src = "/usr/lib/rehearsal/vendor/tailscale.com";
    nix = rehearsed "nix" "nix nix-env nix-store nix-collect-garbage";
    age = rehearsed "age" "age-keygen";
    # As in nixos-26.05: another version than the pinned one.
    headscale = rehearsed "headscale" "headscale" // {
      version = "0.28.0";
    };
    sops = rehearsed "sops" "sops";

    # What NixOS puts on PATH without being asked.
    standardTools = debian "standard-tools" [
      "bash"
      "bzip2"
      "coreutils"
      "curl"
      "dbus-bin"
      "diffutils"
      "findutils"
      "grep"
      "gzip"
      "hostname"
      "iproute2"
      "iputils-ping"
      "less"
      "libc-bin"
      "login"
      "mawk"
      "mount"
      "ncurses-bin"
      "openssh-client"
      "openssh-server"
      "passwd"
      "procps"
      "sed"
      "systemd"
      "systemd-resolved"
      "systemd-sysv"
      "tar"
      "util-linux"
      "whois"
      "xz-utils"
      "zstd"
    ] "bash";

    writeText =
      name: text:
      write {
        inherit name text;
      };
    writeShellApplication =
      {
        name,
        text,
        runtimeInputs ? [ ],
        runtimeEnv ? { },
      }:
      packages.script name name runtimeInputs (
        lib.concatStringsSep "" (lib.mapAttrsToList (variable: value: "export ${variable}='${value}'\n") runtimeEnv) + text
      );
    # A unit's script has a longer name in the store than on the disk, and nix takes 211 letters.
    unitScript = name: packages.script "unit-script-${name}" name [ ];
    script =
      storeName: name: runtimeInputs: text:
      write {
        name = storeName;
        executable = true;
        destination = "/bin/${name}";
        text = ''
          #!/usr/bin/bash
          set -o errexit
          set -o nounset
          set -o pipefail
          export PATH="${lib.concatMapStringsSep ":" (p: "${p}/bin") runtimeInputs}:$PATH"
          ${text}'';
      };
    runCommand =
      name: environment: commands:
      build (
        removeAttrs environment [ "nativeBuildInputs" ]
        // {
          pname = name;
          path = environment.nativeBuildInputs or [ ];
          inherit commands;
          passAsFile = [ "commands" ];
          builder = ./builders/run.sh;
        }
      );

    testers.runNixOSTest = import ./vm-test.nix {
      inherit
        build
        lib
        packages
        system
        ;
    };
    buildGo126Module = import ./go.nix { inherit build; };
    fetchFromGitHub = { owner, repo, tag, hash }: { inherit owner repo tag hash; };
    fetchzip =
      {
        url,
        hash,
        stripRoot ? true,
      }:
      build {
        pname = "source";
        inherit url hash;
        path = [ packages.nix ];
        unpacked = ./headscale-ui;
        builder = ./builders/fetchzip.sh;
      };
  };
  call =
    function: arguments: function (intersectAttrs (functionArgs function) packages // arguments);
in
packages
