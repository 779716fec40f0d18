"""The requests that nginx lets through, tried with the real nginx and an echo in headscale's place."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from server_image import HERE, ServerImage, sample_system, sample_tree

import rules

HEADSCALE, UI = "headscale.example.org", "headscale-ui.example.org"


@pytest.fixture(scope="module")
def nginx(server: ServerImage) -> str:
    """The path of nginx.conf, with all there that nginx wants to start."""
    system = sample_system()
    server.output("mkdir", "-p", "/run/nginx", "/var/cache/nginx", "/var/log/nginx")
    for name in (HEADSCALE, UI):
        script = re.search(r"ExecStart=(\S+)", server.read(f"{system}/etc/systemd/system/acme-{name}.service"))
        assert script is not None
        directory = f"/var/lib/acme/{name}"
        server.output("mkdir", "-p", directory)
        server.output("env", f"DOMAIN={name}", f"DIRECTORY={directory}", script[1])
    return f"{system}/etc/nginx/nginx.conf"


def test_nginx_takes_its_configuration(server: ServerImage, nginx: str):
    server.output("nginx", "-t", "-c", nginx)


def test_nginx_takes_the_longest_names_and_all_former_ones(server: ServerImage, nginx: str):
    labels = ".".join(("a" * 60, "b" * 60, "c" * 36))
    long, longer, former = (f"{letter}{labels}.example.org" for letter in ("h", "ui", "f"))
    assert len(longer) == rules.LONGEST_NAME
    names = {"headscaleName": long, "uiName": longer, "formerHeadscaleNames": [former], "baseDomain": "ts.example.org"}
    system = server.build(server.tree("long-names", **names))
    for name in (long, longer, former):
        server.unit(system, f"acme-order-renew-{name}.service")
    assert "no longer than 211" in server.failure(server.tree("too-long", headscaleName=f"h{longer}"))
    configuration = server.read(f"{system}/etc/nginx/nginx.conf")
    for name in (HEADSCALE, UI):
        configuration = re.sub(r"/var/lib/acme/[^/;]+/", f"/var/lib/acme/{name}/", configuration)
    server.put("/tmp/long.conf", configuration)
    server.output("nginx", "-t", "-c", "/tmp/long.conf")
    server.put("/tmp/short.conf", configuration.replace("server_names_hash_bucket_size 512;", ""))
    assert "could not build server_names_hash" in server.run("nginx", "-t", "-c", "/tmp/short.conf").stderr


def gixy(server: ServerImage, nginx: str, directory: Path) -> str:
    """Findings of the analyser that nixpkgs runs when it builds nginx.conf: each fails that build.

    It needs Python 3.11 or older, so it runs here, on copies.
    """

    def copy(path: str) -> Path:
        text = re.sub(r"\binclude (/[^;]+);", lambda match: f"include {copy(match[1])};", server.read(path))
        target = directory / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target

    process = subprocess.run([Path(sys.executable).with_name("gixy"), copy(nginx)], capture_output=True, text=True)
    return process.stdout + process.stderr


def test_the_check_of_nixpkgs_build_finds_nothing(server: ServerImage, nginx: str, tmp_path: Path):
    assert "No issues found" in (output := gixy(server, nginx, tmp_path)), output
    assert "ERROR" not in output, output


def test_the_check_of_nixpkgs_build_finds_headers_that_hide_others(server: ServerImage, tmp_path: Path):
    tree = server.tree(
        "hiding", f"""{{ services.nginx.virtualHosts."{UI}".locations."= /x".extraConfig = "add_header X-Y z;"; }}"""
    )
    assert "add_header_redefinition" in gixy(server, f"{server.build(tree)}/etc/nginx/nginx.conf", tmp_path)


Answer = tuple[int, list[list[str]], str]


def walk(server: ServerImage, nginx: str, *requests: tuple[str, str, str]) -> list[Answer]:
    sent = {"X-Real-IP": "192.0.2.1", "True-Client-IP": "192.0.2.1", "Cookie": "of=a-browser"}
    asked = [[*request, sent] for request in requests]
    server.put("/walk.py", (HERE / "nginx_walk.py").read_text())
    return json.loads(server.output("python3", "/walk.py", nginx, stdin=json.dumps(asked)))


def test_only_known_paths_are_passed_on(server: ServerImage, nginx: str):
    open_paths = [
        "/health",
        "/key?v=130",
        "/version",
        "/derp",
        "/derp/latency-check",
        "/register/hskey-authreq-x",
        "/apple",
    ]
    closed = ["/", "/verify", "/swagger", "/metrics", "/debug/config", "/api/v1/user", "/web/", "/key/x", "/healthz"]
    answers = walk(server, nginx, *((HEADSCALE, "GET", path) for path in open_paths + closed))
    status = dict(zip(open_paths + closed, (answer[0] for answer in answers), strict=True))
    assert status == {path: 200 for path in open_paths} | {path: 404 for path in closed}


def test_the_web_interface_calls_a_part_of_the_api_only(server: ServerImage, nginx: str):
    expected = {
        ("GET", "/api/v1/user"): 200,
        ("POST", "/api/v1/node/1/tags"): 200,
        ("PUT", "/api/v1/user"): 403,
        ("GET", "/api/v1/policy"): 404,
        ("GET", "/ts2021"): 404,
        ("GET", "/"): 302,
        ("GET", "/web/"): 200,
        ("GET", "/web/users.html"): 200,
        ("GET", "/web/no-such-page"): 404,
        ("POST", "/web/"): 405,
    }
    answers = walk(server, nginx, *((UI, method, path) for method, path in expected))
    assert dict(zip(expected, (answer[0] for answer in answers), strict=True)) == expected


def test_every_answer_has_each_security_header_once(server: ServerImage, nginx: str):
    requests = [
        (HEADSCALE, "GET", "/health"),
        (HEADSCALE, "GET", "/"),
        (UI, "GET", "/web/"),
        (UI, "GET", "/api/v1/user"),
    ]
    for request, (_, headers, _) in zip(requests, walk(server, nginx, *requests), strict=True):
        names = [name.lower() for name, value in headers if value != "headscale's own"]
        for name in (
            "strict-transport-security",
            "x-frame-options",
            "x-content-type-options",
            "referrer-policy",
            "content-security-policy",
        ):
            assert names.count(name) == 1, f"{request}: {name} in {headers}"
        assert "headscale's own" not in [value for _, value in headers], f"{request}: {headers}"


@pytest.mark.parametrize("name, path", [(HEADSCALE, "/health"), (UI, "/api/v1/user")])
def test_headscale_hears_the_real_address_only(server: ServerImage, nginx: str, name: str, path: str):
    heard = heard_by_headscale(server, nginx, name, path)
    assert (heard["x-forwarded-for"], heard["x-forwarded-proto"], heard["host"]) == ("127.0.0.1", "https", name)
    assert not {"x-real-ip", "true-client-ip"} & heard.keys()


@pytest.mark.parametrize("name, path", [(HEADSCALE, "/health"), (UI, "/api/v1/user")])
def test_no_header_names_another_method(server: ServerImage, nginx: str, name: str, path: str):
    sent = {header: "DELETE" for header in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")}
    server.put("/walk.py", (HERE / "nginx_walk.py").read_text())
    asked = json.dumps([[name, "GET", path, sent | {"X-Other": "DELETE"}]])
    ((_, _, body),) = json.loads(server.output("python3", "/walk.py", nginx, stdin=asked))
    assert [header for header, value in json.loads(body).items() if value == "DELETE"] == ["X-Other"]


def test_pages_of_errors_are_small_and_tell_of_no_program(server: ServerImage, nginx: str):
    requests = [(HEADSCALE, "GET", "/no-such-path"), (HEADSCALE, "GET", "//key"), (UI, "GET", "/web/no-such-page")]
    for (status, _, body), expected in zip(walk(server, nginx, *requests), (404, 400, 404), strict=True):
        assert status == expected
        assert body.startswith("<!doctype html>") and len(body) < 500
        assert "nginx" not in body.lower()


def test_the_api_answers_errors_in_its_own_form(server: ServerImage, nginx: str):
    requests = [(UI, "GET", "/api/v1/policy"), (UI, "PUT", "/api/v1/user"), *[(UI, "POST", "/api/v1/user")] * 60]
    answers = walk(server, nginx, *requests)
    assert [status for status, _, _ in answers[:2]] == [404, 403]
    refused = [answer for answer in answers if answer[0] == 429]
    assert refused
    for _, headers, body in (*answers[:2], *refused):
        assert set(json.loads(body)) == {"code", "message", "details"}
        assert dict(map(tuple, headers))["Content-Type"] == "application/json"


def test_cookies_come_through_where_a_login_needs_them_only(server: ServerImage, nginx: str):
    assert "cookie" in heard_by_headscale(server, nginx, HEADSCALE, "/oidc/callback")
    assert "cookie" not in heard_by_headscale(server, nginx, UI, "/api/v1/user")


def heard_by_headscale(server: ServerImage, nginx: str, name: str, path: str) -> dict[str, str]:
    ((_, _, body),) = walk(server, nginx, (name, "GET", path))
    return {header.lower(): value for header, value in json.loads(body).items()}


def test_only_what_is_there_for_ever_is_kept_for_ever(server: ServerImage, nginx: str):
    immutable = "/web/_app/immutable"
    root = server.evaluate(sample_tree(), f'services.nginx.virtualHosts."{UI}".root')
    there, *_ = server.output("find", f"{root}{immutable}", "-name", "*.js").split()
    paths = [there.removeprefix(root), "/web/users.html", "/api/v1/user", f"{immutable}/no-such.js"]
    answers = walk(server, nginx, *((UI, "GET", path) for path in paths))
    cache_control = [dict(map(tuple, headers)).get("Cache-Control") for _, headers, _ in answers]
    assert cache_control == ["public, max-age=31536000, immutable", "no-cache", "no-store", None]


def test_an_address_that_is_not_allowed_does_not_see_the_web_interface(server: ServerImage, nginx: str):
    system = server.build(server.tree("allowed", uiAllowedNetworks=["192.0.2.0/24"]))
    answers = walk(server, f"{system}/etc/nginx/nginx.conf", (UI, "GET", "/web/"), (UI, "GET", "/api/v1/user"))
    assert [answer[0] for answer in answers] == [403, 403]


def test_the_policy_of_the_pages_names_their_scripts(server: ServerImage):
    sample_system()
    ui = server.evaluate(sample_tree(), f'services.nginx.virtualHosts."{UI}".root')
    policy = server.read(f"{ui}/csp.conf")
    pages = server.output("find", f"{ui}/web", "-name", "*.html").split()
    assert len(pages) == 5
    for page in pages:
        script = re.search(r"<script>(.*?)</script>", server.read(page), re.DOTALL)
        assert script is not None
        digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
