{ lib, ... }:
{
  services.headscale.settings.derp.urls = lib.mkForce [ "https://192.0.2.1/" ];
}
