# The configuration that the virtual hosts share. Each host is in the file of its service.
{
  deployment,
  lib,
  pkgs,
  ...
}:
let
  application =
    name: inputs:
    pkgs.writeShellApplication {
      inherit name;
      runtimeInputs = inputs ++ [
        pkgs.coreutils
        pkgs.openssl
      ];
      text = builtins.readFile ./${name}.sh;
    };
  drift = application "certificates-drift" [ ];
  warnings = application "certificates-warnings" [ ];
  again = application "order-certificates-again" [
    drift
    pkgs.gnused
    pkgs.systemd
  ];
in
{
  services.nginx = {
    enable = true;
    # A restart cuts every device's connection.
    enableReload = true;
    recommendedTlsSettings = true;
    recommendedOptimisation = true;

    appendConfig = ''
      # After a reload an old worker ends with its last connection, and until then takes 4 MB. Devices stay connected for
      # days: cut off earlier, all of them would reconnect at once after each change and each renewed certificate.
      worker_shutdown_timeout 7d;
      worker_rlimit_nofile 16384;
    '';
    eventsConfig = ''
      worker_connections 4096;
    '';
    clientMaxBodySize = "64k";
    # Names of 47 letters are too long for nginx's own size, and it does not start; this holds for the longest.
    serverNamesHashBucketSize = 512;
    commonHttpConfig = ''
      # A client with one IPv6 address has the other 2^64 of its network as well.
      map $binary_remote_addr $client {
        "~(?s)^(?<network>.{8}).{8}$" $network;
        default $binary_remote_addr;
      }
      # Many devices share an address: at the limits for people, 20 of 30 never join.
      limit_req_zone $client zone=devices:10m rate=50r/s;
      limit_conn_zone $client zone=device_connections:10m;
      # A person, or someone who guesses keys.
      limit_req_zone $client zone=people:10m rate=10r/s;
      limit_conn_zone $client zone=people_connections:10m;
      limit_req_status 429;
      limit_conn_status 429;
      # The format of the error log is fixed, with query and referrer. Left in it: what a client breaks off or sends too
      # much of, and a headscale that does not answer.
      limit_req_log_level info;
      limit_conn_log_level info;
      log_not_found off;

      client_header_timeout 10s;
      client_body_timeout 10s;
      send_timeout 30s;

      include ${./proxy-headers.conf};
      proxy_http_version 1.1;
      proxy_buffering off;
      # An idle relay connection says nothing for a minute and longer.
      proxy_read_timeout 1h;
      proxy_send_timeout 1h;

      # NGINX matches the normalised path and passes on the raw one: who writes them differently means to be taken for
      # another. The pages of errors are looked for under a path of their own.
      map $request_uri $raw_path {
        "~^(?<path>[^?]*)" $path;
      }
      map "$raw_path $uri" $path_is_plain {
        volatile;
        "~(?s)^(\S*) \1$" 1;
        "~ /\.pages/" 1;
        default 0;
      }

      # What fail2ban counts. An admin's address is counted apart from its neighbours in the network; a 401 without a key
      # is not a guess.
      geo $is_admin {
        default 0;
        ${lib.concatMapStringsSep "\n" (network: "${network} 1;") deployment.adminNetworks}
      }
      map "$is_admin$remote_addr" $counted_as {
        "~^0.*:" $remote_addr/64;
        default $remote_addr;
      }
      map "$status $asked_by $http_authorization" $offence {
        "~^400 disguise " path;
        "~^429 person " limit;
        "~^401 person ." wrong-key;
        default -;
      }
      uninitialized_variable_warn off;
      # A query may carry a registration key.
      log_format without_query '$counted_as - [$time_local] "$request_method $raw_path" $status $body_bytes_sent $offence';
      access_log /var/log/nginx/access.log without_query;
    '';

    # A request by address, or by another name, gets neither an answer nor a certificate.
    virtualHosts."_" = {
      default = true;
      rejectSSL = true;
      locations."/".return = "444";
    };
  };

  environment.etc."deployment/drift/certificates".source = lib.getExe drift;
  environment.etc."deployment/warnings/certificates".source = lib.getExe warnings;
  environment.etc."deployment/after/certificates".source = lib.getExe again;

  # What a certificate authority refuses is not the configuration's fault.
  environment.etc."deployment/may-fail/certificates".text = ''
    acme-order-renew-.*\.service
  '';

  security.acme = {
    acceptTerms = true;
    defaults.email = deployment.acmeEmail;
    defaults.server = deployment.acmeServer;
  };
}
