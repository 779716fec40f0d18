# headscale's own address: `nginx -t` takes it, since an address in use may be NGINX's.
{
  services.nginx.commonHttpConfig = "server { listen 127.0.0.1:8085; }";
}
