{
  services.headscale.settings.dns.search_domains = [ "example.org" ];
}
