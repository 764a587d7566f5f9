"""Foreign pages and other machines can't ask Prefect's server; its own pages and clients can."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from http.client import HTTPMessage as Message
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from services import PASSWORD
from support import LIMIT_S, ROOT
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from flows.guard import Doors
from flows.server import settings
from geoseg.errors import ConfigError

Headers = list[tuple[str, str]]
DOORS = Doors(frozenset({"127.0.0.1:4200", "localhost:4200", "[::1]:4200", "maps.example"}))
HOST = ("Host", "127.0.0.1:4200")
LINK = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")]


def refusal(headers: Headers, **facts: str) -> str | None:
    return DOORS.refusal([(name.encode(), value.encode()) for name, value in headers], **facts)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Host", "evil.example:4200")],
        [("Host", "127.0.0.1")],
        [("Host", "127.0.0.1:4201")],
        [("Host", "127.0.0.1:4200.evil.example")],
        [("Host", "evil.example@127.0.0.1:4200")],
        [("Host", "127.0.0.1:4200, evil.example")],
        [("Host", "maps.example:4200")],
        [("Host", "maps.example.")],
        [HOST, ("Host", "evil.example")],
        [("Host", "evil.example"), HOST],
        [("Host", "evil.example:4200"), ("X-Forwarded-Host", "127.0.0.1:4200")],
        [HOST, ("Origin", "http://evil.example")],
        [HOST, ("Origin", "null")],
        [HOST, ("Origin", "")],
        [HOST, ("Origin", "file://")],
        [HOST, ("Origin", "http://127.0.0.1:8000")],
        [HOST, ("Origin", "http://127.0.0.1")],
        [HOST, ("Origin", "http://127.0.0.1:4200.evil.example")],
        [HOST, ("Origin", "http://127.0.0.1:4200@evil.example")],
        [HOST, ("Origin", "http://evil.example/http://127.0.0.1:4200")],
        [HOST, ("Origin", "ftp://127.0.0.1:4200")],
        [HOST, ("Origin", "http://127.0.0.1:4200"), ("Origin", "http://evil.example")],
        [HOST, ("Sec-Fetch-Site", "cross-site")],
        [HOST, ("Sec-Fetch-Site", "same-site")],
        [HOST, ("Sec-Fetch-Site", "none"), ("Sec-Fetch-Site", "cross-site")],
        [HOST, ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe")],
        [HOST, ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "image")],
    ],
    ids=lambda headers: " ".join(f"{name}={value}" for name, value in headers) or "no host",
)
def test_what_is_foreign_stays_outside(headers: Headers) -> None:
    assert refusal(headers) is not None


@pytest.mark.parametrize(
    "headers",
    [
        [HOST],
        [("host", "LocalHost:4200")],
        [("Host", "[::1]:4200")],
        [("Host", "maps.example"), ("Origin", "https://maps.example"), ("Sec-Fetch-Site", "same-origin")],
        [HOST, ("Origin", "http://127.0.0.1:4200"), ("Sec-Fetch-Site", "same-origin")],
        # The pages were opened as localhost, and their API is at 127.0.0.1.
        [HOST, ("Origin", "http://localhost:4200"), ("Sec-Fetch-Site", "cross-site")],
        [HOST, ("Sec-Fetch-Site", "none"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")],
        [HOST, *LINK],
    ],
    ids=lambda headers: " ".join(f"{name}={value}" for name, value in headers),
)
def test_own_pages_and_programs_get_in(headers: Headers) -> None:
    assert refusal(headers) is None


def test_a_link_from_elsewhere_leads_to_a_page_and_to_nothing_else() -> None:
    assert refusal([HOST, *LINK], path="/runs") is None
    assert refusal([HOST, *LINK], path="/api/deployments/x") is not None
    assert refusal([HOST, *LINK], path="/runs", method="POST") is not None


# What reaches other machines needs a password.


@pytest.mark.parametrize(
    ("host", "environment", "said"),
    [
        ("0.0.0.0", {}, "0.0.0.0: other machines can reach"),
        ("::", {}, "other machines can reach"),
        ("192.0.2.1", {}, "other machines can reach"),
        ("127.0.0.1", {"GEOSEG_SERVER_HOSTS": "192.0.2.7:4200"}, "192.0.2.7:4200: other machines can reach"),
        ("0.0.0.0", {"PREFECT_SERVER_API_AUTH_STRING": ""}, "is not user:password"),
        ("0.0.0.0", {"PREFECT_SERVER_API_AUTH_STRING": "geoseg"}, "is not user:password"),
        ("0.0.0.0", {"PREFECT_SERVER_API_AUTH_STRING": "geoseg:short"}, "is not user:password"),
        ("127.0.0.1", {"GEOSEG_SERVER_HOSTS": "*", "PREFECT_SERVER_API_AUTH_STRING": PASSWORD}, "is not the name of a host"),
        (
            "127.0.0.1",
            {"GEOSEG_SERVER_HOSTS": "http://a", "PREFECT_SERVER_API_AUTH_STRING": PASSWORD},
            "is not the name of a host",
        ),
        ("127.0.0.1", {"GEOSEG_RETENTION": "1h"}, "too short"),
    ],
)
def test_no_server_without_a_password_where_others_reach_it(host: str, environment: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        settings(host, 4200, environment)
    assert "\n" not in str(caught.value)
    assert "geoseg:short" not in str(caught.value)


def test_the_command_says_so_in_one_line(tmp_path: Path) -> None:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "GEOSEG"))} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "flows.server", "--host", "0.0.0.0"]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("geoseg: 0.0.0.0: other machines can reach the server there")
    assert done.stderr.count("\n") == 1


def test_foreign_names_in_the_environment_change_nothing() -> None:
    """Prefect has several names for the same setting; its own protection is on whatever they say."""
    given = {"PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "false", "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "false"}
    doors, environment = settings("127.0.0.1", 4200, given | {"PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "*"})
    script = (
        "from prefect.settings import get_current_settings as s; a = s().server.api;"
        "print(a.csrf_protection_enabled, a.cors_allowed_origins)"
    )
    env = os.environ | given | {"PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "*"} | environment
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    assert done.stdout.split() == ["True", ",".join(doors.origins)]


# The real server.


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Message
    body: bytes


def ask(api: str, method: str, path: str, headers: Headers, body: Any = None) -> Answer:
    """A request with exactly these headers, as a browser that was talked into it sends it."""
    connection = http.client.HTTPConnection(urlsplit(api).netloc, timeout=60)
    data = b"" if body is None else json.dumps(body).encode()
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in [*headers, ("Content-Length", str(len(data)))]:
        connection.putheader(name, value)
    connection.endheaders(data)
    answer = connection.getresponse()
    found = Answer(answer.status, answer.headers, answer.read())
    connection.close()
    return found


def basic(text: str) -> tuple[str, str]:
    return ("Authorization", "Basic " + base64.b64encode(text.encode()).decode())


def hosted(api: str, *more: tuple[str, str]) -> Headers:
    """With the right name and the password, as a browser adds it that was asked for it before."""
    return [("Host", urlsplit(api).netloc), basic(PASSWORD), *more]


def listen(api: str, path: str, *, host: str | None = None, origin: str | None = None) -> int:
    """Status of the answer to a WebSocket's handshake."""
    place = urlsplit(api)
    assert place.port is not None
    with socket.create_connection(("127.0.0.1", place.port), timeout=60) as line:
        address = f"ws://{host or place.netloc}{path}"
        try:
            with connect(address, sock=line, origin=origin, subprotocols=["prefect"], open_timeout=60):
                return 101
        except InvalidStatus as error:
            return error.response.status_code


FOREIGN = ("Origin", "https://evil.example")
TEXT = ("Content-Type", "text/plain")
JSON = ("Content-Type", "application/json")
NOBODY = "00000000-0000-0000-0000-000000000000"
SOCKETS = ("/api/events/in", "/api/events/out", "/api/logs/out", "/api/task_runs/subscriptions/scheduled")


@pytest.mark.parametrize(
    ("method", "path", "more"),
    [
        ("POST", "/api/deployments/filter", [FOREIGN, JSON]),
        ("POST", "/api/deployments/filter", [FOREIGN, TEXT]),
        ("POST", f"/api/deployments/{NOBODY}/create_flow_run", [FOREIGN, TEXT]),
        ("GET", "/api/deployments/name/scan/scan", [FOREIGN]),
        ("GET", "/api/csrf-token?client=x", [FOREIGN]),
        ("GET", "/ui-settings", [FOREIGN]),
        ("GET", "/docs", [FOREIGN]),
        ("OPTIONS", "/api/deployments/filter", [FOREIGN, ("Access-Control-Request-Method", "POST")]),
        ("DELETE", f"/api/flow_runs/{NOBODY}", [FOREIGN]),
        ("GET", "/api/admin/settings", [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_foreign_page_gets_no_answer(guarded: dict[str, str], method: str, path: str, more: Headers) -> None:
    api = guarded["PREFECT_API_URL"]
    answer = ask(api, method, path, hosted(api, *more), {})
    assert answer.status == 403
    assert answer.headers["Access-Control-Allow-Origin"] is None


def test_a_name_that_was_bound_to_loopback_gets_no_answer(guarded: dict[str, str]) -> None:
    api = guarded["PREFECT_API_URL"]
    name = f"evil.example:{urlsplit(api).port}"
    assert (
        ask(
            api, "POST", "/api/deployments/filter", [("Host", name), ("Origin", f"http://{name}"), basic(PASSWORD), JSON], {}
        ).status
        == 403
    )
    assert ask(api, "GET", "/api/health", [("Host", name)]).status == 403
    # Nor where the first line of the request has a whole address.
    assert ask(api, "GET", f"{api}/health", [("Host", name)]).status == 403


@pytest.mark.parametrize("path", SOCKETS)
def test_a_foreign_page_can_not_listen(guarded: dict[str, str], path: str) -> None:
    api = guarded["PREFECT_API_URL"]
    own = urlsplit(api).netloc
    assert listen(api, path, origin="https://evil.example") == 403
    assert listen(api, path, host=f"evil.example:{urlsplit(api).port}") == 403
    assert listen(api, path, origin=f"http://{own}") == 101
    assert listen(api, path) == 101


def test_writing_needs_the_token_that_only_own_pages_can_read(guarded: dict[str, str]) -> None:
    api = guarded["PREFECT_API_URL"]
    own = ("Origin", f"http://{urlsplit(api).netloc}")
    assert ask(api, "POST", "/api/deployments/filter", hosted(api, JSON), {}).status == 403
    token = json.loads(ask(api, "GET", "/api/csrf-token?client=x", hosted(api, own)).body)["token"]
    with_token = [own, JSON, ("Prefect-Csrf-Token", token), ("Prefect-Csrf-Client", "x")]
    assert ask(api, "POST", "/api/deployments/filter", hosted(api, *with_token), {}).status == 200


def test_own_pages_and_prefects_client_work(guarded: dict[str, str]) -> None:
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    api = guarded["PREFECT_API_URL"]
    # The pages ask the port that the server listens on.
    assert json.loads(ask(api, "GET", "/ui-settings", hosted(api)).body)["api_url"] == api
    page = ask(api, "GET", "/v2/", hosted(api, *LINK))
    assert page.status == 200
    assert page.headers["X-Frame-Options"] == "DENY"
    other = f"http://localhost:{urlsplit(api).port}"
    asked = [("Origin", other), ("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", "content-type")]
    preflight = ask(api, "OPTIONS", "/api/deployments/filter", hosted(api, *asked))
    assert (preflight.status, preflight.headers["Access-Control-Allow-Origin"]) == (200, other)
    given = {PREFECT_API_URL: api, PREFECT_API_AUTH_STRING: PASSWORD}
    with temporary_settings(given), get_client(sync_client=True) as client:
        assert isinstance(client.read_flow_runs(), list)


def test_a_password_is_asked_for_where_one_is_set(guarded: dict[str, str]) -> None:
    """As it is where a proxy with TLS stands before the server, under a name of its own."""
    api = guarded["PREFECT_API_URL"]
    public = [("Host", "maps.example"), ("Origin", "https://maps.example")]
    read = lambda *more: ask(api, "GET", "/api/csrf-token?client=x", [*public, *more]).status  # noqa: E731
    assert [read(), read(basic("geoseg:")), read(basic(PASSWORD + "x")), read(basic(PASSWORD))] == [401, 401, 401, 200]
    # For a health check, and no more.
    assert ask(api, "GET", "/api/health", [("Host", "maps.example")]).status == 200
    with connect(f"ws{api.removeprefix('http')}/events/out", subprotocols=["prefect"], open_timeout=60) as line:
        line.send(json.dumps({"type": "auth", "token": "guess"}))
        with pytest.raises(ConnectionClosed):
            line.recv(timeout=60)
    log = (Path(guarded["PREFECT_HOME"]) / "server.log").read_text()
    assert PASSWORD.partition(":")[2] not in log
