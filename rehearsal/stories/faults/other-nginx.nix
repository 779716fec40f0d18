{
  services.nginx.commonHttpConfig = "keepalive_requests 999;";
}
