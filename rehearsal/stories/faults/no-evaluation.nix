{
  services.nginx.enable = tru;
}
