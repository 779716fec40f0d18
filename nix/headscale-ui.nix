# The web interface's host: its files, and the part of the API that it calls, since headscale sends no CORS headers.
{
  config,
  deployment,
  lib,
  pkgs,
  ...
}:
let
  ui = pkgs.callPackage ./packages/headscale-ui.nix { };
  allowed = deployment.uiAllowedNetworks;
in
{
  services.nginx.commonHttpConfig = ''
    limit_conn_zone $client zone=page_connections:10m;
    geo $ui_is_open {
      default ${if allowed == [ ] then "1" else "0"};
      ${lib.concatMapStringsSep "\n" (network: "${network} 1;") allowed}
    }
    map $uri $ui_cache_control {
      default no-cache;
      ~^/web/_app/immutable/ "public, max-age=31536000, immutable";
      ~^/api/ no-store;
    }
  '';

  environment.etc."deployment/checks/headscale-ui".source = import ./check-website.nix {
    inherit lib pkgs;
    name = deployment.uiName;
    page = "/web/";
  };

  services.nginx.virtualHosts.${deployment.uiName} = {
    enableACME = true;
    forceSSL = true;
    root = ui;
    extraConfig = ''
      # `deny` would write query and referrer into the error log.
      if ($ui_is_open = 0) {
        return 403;
      }
      include ${./response-headers.conf};
      include ${ui}/csp.conf;
      include ${./error-pages.conf};
      # NGINX sends the headers of a 416 twice.
      max_ranges 0;
      add_header Cross-Origin-Embedder-Policy require-corp always;
      # Not always: a missing file below immutable/ must not be remembered for a year.
      add_header Cache-Control $ui_cache_control;
      # A page comes in 19 requests at once; limits for people blank the second browser behind an address.
      limit_conn page_connections 64;
    '';

    locations."= /".return = "302 /web/";
    locations."= /web".return = "302 /web/";
    locations."= /web/".tryFiles = "/web/index.html =404";
    locations."/web/" = {
      tryFiles = "$uri =404";
      extraConfig = ''
        if ($request_method !~ "^(GET|HEAD)$") {
          return 405;
        }
        gzip on;
        gzip_vary on;
        gzip_types application/javascript text/css text/javascript;
      '';
    };
    locations."~ ^/api/v1/(user|node|preauthkey|apikey)(/|$)" = {
      proxyPass = "http://127.0.0.1:${toString config.services.headscale.port}";
      extraConfig = ''
        if ($request_method !~ "^(GET|HEAD|POST|DELETE)$") {
          return 403;
        }
        include ${./for-people.conf};
        include ${./error-answers.conf};
        # The key is all that counts: what other sites of the domain keep in the browser is not headscale's business.
        include ${./proxy-headers.conf};
        proxy_set_header Cookie "";
      '';
    };
    locations."/".return = "404";
    locations."/api/".extraConfig = ''
      include ${./error-answers.conf};
      return 404;
    '';
    locations."/.pages/".extraConfig = ''
      internal;
      alias ${./pages}/;
    '';
  };
}
