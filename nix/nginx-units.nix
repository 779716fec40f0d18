# How NGINX starts and reloads: devices' connections survive a reload, and a failed one is noticed.
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
  # NGINX that is just being started dies of a reload, and is started again by systemd.
  environment.etc."deployment/retry/nginx".text = ''
    nginx-config-reload.service nginx.service
  '';

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
        # NGINX accepts the signal in any case, and keeps its former configuration where it cannot apply the new one.
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
