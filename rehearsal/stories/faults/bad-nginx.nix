{
  services.nginx.commonHttpConfig = "client_header_timeout ten;";
}
