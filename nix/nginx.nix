# What the hosts share. Each host's own part stands with its service.
{ deployment, ... }:
{
  services.nginx = {
    enable = true;
    # A restart cuts every device's connection.
    enableReload = true;
    recommendedTlsSettings = true;
    recommendedOptimisation = true;

    appendConfig = ''
      # Without it, each reload leaves old workers that hold their connections for ever.
      worker_shutdown_timeout 1m;
      worker_rlimit_nofile 16384;
    '';
    eventsConfig = ''
      worker_connections 4096;
    '';
    clientMaxBodySize = "64k";
    commonHttpConfig = ''
      # Many devices share an address: at the limits for people, 20 of 30 never join.
      limit_req_zone $binary_remote_addr zone=devices:10m rate=50r/s;
      limit_conn_zone $binary_remote_addr zone=device_connections:10m;
      # A person, or someone who guesses keys.
      limit_req_zone $binary_remote_addr zone=people:10m rate=10r/s;
      limit_conn_zone $binary_remote_addr zone=people_connections:10m;
      limit_req_status 429;
      limit_conn_status 429;

      client_header_timeout 10s;
      client_body_timeout 10s;
      send_timeout 30s;

      include ${./proxy-headers.conf};
      proxy_http_version 1.1;
      proxy_buffering off;
      # An idle relay connection says nothing for a minute and longer.
      proxy_read_timeout 1h;
      proxy_send_timeout 1h;

      # A query may carry a registration key.
      log_format without_query '$remote_addr - [$time_local] "$request_method $uri" $status $body_bytes_sent';
      access_log /var/log/nginx/access.log without_query;
    '';

    # Who calls by address, or by a name that is not ours, gets neither an answer nor a certificate.
    virtualHosts."_" = {
      default = true;
      rejectSSL = true;
      locations."/".return = "444";
    };
  };

  security.acme = {
    acceptTerms = true;
    defaults.email = deployment.acmeEmail;
    defaults.server = deployment.acmeServer;
  };
}
