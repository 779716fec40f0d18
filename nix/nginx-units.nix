# How NGINX starts and takes another configuration: devices' connections outlive both, and what fails is seen.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  names = builtins.attrNames config.security.acme.certs;
  workers = pkgs.writeShellApplication {
    name = "nginx-workers";
    runtimeInputs = [ pkgs.coreutils ];
    text = builtins.readFile ./nginx-workers.sh;
  };
in
{
  systemd.services = {
    nginx = {
      # nixpkgs names the certificates here, so that another name would be a changed unit, which is restarted.
      wants = lib.mkForce [ "apparmor.service" ];
      after = lib.mkForce [
        "apparmor.service"
        "network.target"
      ];
      before = lib.mkForce [ ];
      serviceConfig = {
        # NGINX that has not yet started its workers dies of a reload, and answers no certificate authority.
        ExecStartPost = "${lib.getExe workers} started";
        # NGINX takes the signal in any case, and goes on as before if it cannot do what the configuration says.
        ExecReload = lib.mkMerge [
          (lib.mkBefore [ "${lib.getExe workers} remember" ])
          (lib.mkAfter [ "${lib.getExe workers} renewed" ])
        ];
      };
    };
    nginx-config-reload = {
      after = [ "nginx.service" ];
      # Otherwise it runs at every switch. Of a reload that failed or was cut off, nothing remains, and the next switch
      # makes up for it.
      serviceConfig.RemainAfterExit = true;
    };
  }
  // lib.genAttrs (map (name: "acme-${name}") names) (_: {
    before = [ "nginx.service" ];
    wantedBy = [ "nginx.service" ];
  })
  // lib.genAttrs (map (name: "acme-order-renew-${name}") names) (_: {
    after = [
      "nginx.service"
      "nginx-config-reload.service"
    ];
  });
}
