"""The running app, attacked over HTTP: nothing but a visitor's own uploads is ever read."""

from __future__ import annotations

import http.server
import itertools
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from captum_ib.app.routes import find_route
from tests.app.serving import serving
from tests.app.stranger import DATA, JOIN, UPLOAD, Stranger, file_data, png

pytest.importorskip("gradio", reason="the page needs the extra app")

SECRET = b"a secret that no visitor may read"
ENVIRONMENT = Path("/proc/self/environ")


@pytest.fixture(scope="module")
def secret(tmp_path_factory):
    """A file of this machine outside the server's folder, and a picture beside it."""
    folder = tmp_path_factory.mktemp("private")
    (folder / "secret.txt").write_bytes(SECRET)
    (folder / "secret.png").write_bytes(png(33, 22))
    return folder / "secret.txt"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("tmp")) as served:
        yield served


@pytest.fixture
def address(served):
    return served.address


@pytest.fixture
def stranger(served):
    """A visitor; at the end nothing secret has come back, and no copy of it was made."""
    home = served.home
    with Stranger(served.address) as visitor:
        yield visitor
    heard = b"\n".join(visitor.said)
    assert SECRET not in heard and b"33 \xc3\x97 22 pixels" not in heard
    assert (
        not ENVIRONMENT.exists()
        or Path(f"/proc/{served.process.pid}/environ").read_bytes()[:60] not in heard
    )
    assert str(home).encode() not in heard
    copies = [file for file in home.rglob("*") if file.is_file() and SECRET in file.read_bytes()]
    assert copies == []


def raw(address: str, request: bytes) -> bytes:
    """What comes back to bytes that no well-bred client would send."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request.replace(b"HOST", f"{host}:{port}".encode()))
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


# A path in a request


def test_the_attack_of_three_requests(stranger, secret):
    for path in (secret, secret.with_suffix(".png"), ENVIRONMENT, Path("/etc/passwd")):
        answer = stranger.join("ib-model.input", [file_data(str(path))])
        assert answer.status_code == 400 and str(path) not in answer.text
        assert stranger.http.get(f"/gradio_api/file={path}").status_code == 404


def _paths(secret: Path) -> list[str]:
    text = str(secret)
    return [
        text,
        f"file://{text}",
        f"../../..{text}",
        f"x/../../../../../../../..{text}",
        f"{text}\0",
    ]


@pytest.mark.parametrize("event", ["upload", "clear"])
def test_a_file_that_the_visitor_did_not_upload_is_not_taken(stranger, secret, event):
    for path in _paths(secret):
        for data in (file_data(path), {"path": path}, file_data(path, url=path, orig_name=path)):
            answer = stranger.join(f"ib-file.{event}", ["zoo:clip-scenes", data])
            assert answer.status_code == 403


def test_no_field_takes_a_file(stranger, secret):
    """Every field of every function: a file, a list of files, a file in a file, a cached path."""
    fields = {
        "ib-model.input": 1,
        "ib-methods.input": 2,
        "ib-example-1.click": 1,
        "ib-run.click": 10,
    }
    file = file_data(str(secret))
    shapes = [file, [file], [[file]], {"value": file}, {"": file}, {"path": str(secret)}]
    for (function, count), shape in itertools.product(fields.items(), shapes):
        for place in range(count):
            data = [None] * count
            data[place] = shape
            assert stranger.join(function, data).status_code == 400, (function, place, shape)


def test_what_gradio_reads_beside_the_data_is_not_passed_on(stranger, secret):
    more = {
        "event_data": file_data(str(secret)),
        "simple_format": True,
        "batched": True,
        "api_name": "predict",
        "request": {"headers": {}},
        "trigger_id": file_data(str(secret)),
    }
    assert stranger.join("ib-model.input", ["zoo:vit-scenes"], **more).status_code == 200
    assert '"success":true' in stranger.answers()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"5",
        b"{",
        b"\xff",
        b"[" * 50_000,
        b'{"data": [NaN], "fn_index": 0, "session_hash": "stranger1"}',
        b'{"data": [1e999], "fn_index": 0, "session_hash": "stranger1"}',
        b'{"data": ["\\ud800"], "fn_index": 0, "session_hash": "stranger1"}',
        b'{"data": [], "fn_index": 0, "session_hash": "stranger1"}',
        b'{"data": ["zoo:clip-scenes"], "fn_index": -1, "session_hash": "stranger1"}',
        b'{"data": ["zoo:clip-scenes"], "fn_index": true, "session_hash": "stranger1"}',
        b'{"data": ["zoo:clip-scenes"], "fn_index": 0}',
        b'{"data": ["zoo:clip-scenes"], "fn_index": "0", "session_hash": 1}',
    ],
)
def test_a_call_that_the_page_would_not_send(stranger, body):
    answer = stranger.http.post(JOIN, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400 and answer.text.startswith("refused: ")


# Routes


def _everywhere(secret: Path) -> list[str]:
    text, once = str(secret), str(secret).replace("/", "%2F")
    twice = once.replace("%", "%25")
    prefixes = ("file=", "file/", "File=", "proxy=", "stream/", "custom_component/", "upload/")
    api = [f"/gradio_api/{prefix}{path}" for prefix in prefixes for path in (text, once, twice)]
    folders = ("assets", "static", "svelte", "results", "pwa_icon", "gradio_api")
    climbs = ("../" * 12, "..%2F" * 12, "%2e%2e/" * 12, "%252e%252e%252f" * 12, "..%5C" * 12, "/")
    up = [f"/{folder}/{climb}{text.lstrip('/')}" for folder in folders for climb in climbs]
    other = [
        f"/file={text}",
        f"//gradio_api/file={text}",
        f"/gradio_api//file={text}",
        f"/gradio_api/./file={text}",
        f"/gradio_api/%66ile={text}",
        f"/gradio_api/file={text}?session_hash=stranger1",
        f"/gradio_api/file={text}#",
        f"/gradio_api/upload_progress/{text}",
        "/config",
        "/config/",
        "/gradio_api/info",
        "/gradio_api/openapi.json",
        "/gradio_api/startup-events",
        "/gradio_api/queue/status",
        "/gradio_api/dev/reload",
        "/gradio_api/vibe-code",
        "/gradio_api/runs",
        "/gradio_api/deep_link",
        "/monitoring",
        "/manifest.json",
        "/docs",
        "/openapi.json",
        "/gradio_api/call/on_model/x",
        "/gradio_api/stream/stranger1/1/1/playlist.m3u8",
    ]
    return [*api, *up, *other]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_there_is_nothing_behind_other_routes(stranger, secret, method):
    for path in _everywhere(secret):
        line = f"{method} {path} HTTP/1.1\r\nHost: HOST\r\n"
        line += f"Origin: {stranger.address}\r\nConnection: close\r\n\r\n"
        answer = raw(stranger.address, line.encode())
        stranger.said.append(answer)
        assert answer.split()[1] in (b"400", b"403", b"404", b"405"), (path, answer[:200])


def test_gradios_other_ways_to_call_a_function_are_closed(stranger, secret):
    body = {"data": [file_data(str(secret))], "fn_index": 0, "session_hash": "stranger1"}
    server = {**body, "component_id": 6, "fn_name": "ls"}
    for path, message in {
        "/gradio_api/run/predict": body,
        "/gradio_api/api/on_model": body,
        "/gradio_api/call/on_model": body,
        "/gradio_api/call/v2/on_model": body,
        "/gradio_api/component_server": server,
        "/gradio_api/stream/1": body,
        "/gradio_api/process_recording": body,
        "/gradio_api/vibe-edit": {"prompt": "x"},
        "/login": {"username": "x", "password": "x"},
    }.items():
        assert stranger.http.post(path, json=message).status_code == 404, path


def test_what_is_asked_for_with_the_page_is_not_read(stranger, secret):
    page = stranger.http.get("/", params={"deep_link": str(secret), "page": str(secret)})
    assert page.status_code == 200 and "private" not in page.text.partition("gradio_config")[0]
    assert "set-cookie" not in page.headers  # there is one already


LOOK_INSIDE = """
import asyncio, json, sys
from pathlib import Path
import httpx
from captum_ib.app.offers import make_offer
from captum_ib.app.server import application
from captum_ib.app.uploads import Limits
from captum_ib.loading.load import load
import torch

offers = {"zoo:vit-scenes": make_offer(load("vit-scenes"), torch.device("cpu"))}
outer = application(offers, Limits(), Path(sys.argv[1]), "127.0.0.1").app.app

def routes(app):
    for route in app.routes:
        if hasattr(route, "methods"):
            yield from ((method, route.path) for method in route.methods or ())
        else:  # a mounted application, or a router as newer FastAPIs keep it
            yield from routes(getattr(route, "original_router", None) or route.app)

async def attack():
    transport = httpx.ASGITransport(app=outer)
    async with (
        outer.router.lifespan_context(outer),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client,
    ):
        file = {"path": sys.argv[2], "meta": {"_type": "gradio.FileData"}}
        body = {"data": [file], "fn_index": 0, "session_hash": "stranger1"}
        return (await client.post("/gradio_api/run/predict", json=body)).text

print(json.dumps([sorted(routes(outer)), asyncio.run(attack())]))
"""


def test_gradio_without_the_door(tmp_path, secret):
    """Its routes are known, each is let in by name or refused; the second wall stands too.

    A Gradio with a new route fails here only where the door would let it in.
    """
    command = [sys.executable, "-c", LOOK_INSIDE, str(tmp_path), str(secret)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    routes, answer = json.loads(done.stdout.splitlines()[-1])
    let_in = set()
    for method, path in routes:
        example = path.replace("{path:path}", "x.js").replace("{session_hash}", "abcdef1")
        example = example.replace("{token}", "x").replace("{name}", "x")
        if find_route(method, example):
            let_in.add((method, path))
    assert let_in == LET_IN
    assert ["GET", "/gradio_api/file={path_or_url:path}"] in routes and len(routes) > 60
    assert "error" in answer and SECRET.decode() not in answer
    copies = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert not any(SECRET in file.read_bytes() for file in copies)


LET_IN = {
    ("GET", "/"),
    ("HEAD", "/"),
    ("GET", "/assets/{path:path}"),
    ("GET", "/static/{path:path}"),
    ("GET", "/theme.css"),
    ("GET", "/favicon.ico"),
    ("GET", "/gradio_api/app_id"),
    ("GET", "/gradio_api/heartbeat/{session_hash}"),
    ("POST", "/gradio_api/queue/join"),
    ("GET", "/gradio_api/queue/data"),
    ("POST", "/gradio_api/cancel"),
    ("POST", "/gradio_api/reset"),
    ("POST", "/gradio_api/upload"),
    ("GET", "/gradio_api/upload_progress"),
    ("GET", "/gradio_api/file={token}/{name}"),
    ("GET", "/results/{token}/{name}"),
}


def test_no_websocket(address):
    request = b"GET /gradio_api/queue/join HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade\r\n"
    request += b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    request += b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    assert raw(address, request).split()[1] in (b"400", b"403", b"404", b"405")


# Addresses that the server would fetch


def test_nothing_is_fetched(stranger):
    hits = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            hits.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(SECRET)

        do_HEAD = do_POST = do_GET

        def log_message(self, *_):
            """Nothing is said."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as inside:
        thread = threading.Thread(target=inside.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{inside.server_address[1]}/x.png"
        for data in (file_data(url), file_data("x.png", url=url), {"path": url, "url": url}):
            assert stranger.join("ib-file.upload", ["zoo:clip-scenes", data]).status_code == 403
            assert stranger.join("ib-model.input", [data]).status_code == 400
        for prefix in ("file=", "proxy=", "file/"):
            assert stranger.http.get(f"/gradio_api/{prefix}{url}").status_code == 404
        values = ["zoo:clip-scenes", None, url, url, ["nib"], [url], None, None, 0, None]
        assert "Not explained" in stranger.ask("ib-run.click", values)
        inside.shutdown()
        thread.join()
    assert hits == []


# Other pages, other names


OTHER = [
    {"Origin": "http://127.0.0.1:9"},
    {"Origin": "http://localhost"},
    {"Origin": "https://attacker.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    {"Host": "attacker.example"},
    {"Host": "127.0.0.1.attacker.example"},
    {"Host": "0.0.0.0"},
    {"Host": "192.168.0.7"},
    {"Host": "localhost@attacker.example"},
    {"Host": ""},
]


@pytest.mark.parametrize("headers", OTHER)
def test_a_page_of_another_origin_or_name_is_refused(stranger, headers):
    expected = 400 if "Host" in headers else 403
    for path in ("/", "/theme.css", DATA, "/gradio_api/heartbeat/stranger1", "/gradio_api/app_id"):
        answer = stranger.http.get(path, headers=headers)
        assert answer.status_code == expected, path
        assert not any(name.startswith("access-control-") for name in answer.headers)
    assert stranger.http.post(JOIN, json={}, headers=headers).status_code == expected
    sent = stranger.http.post(UPLOAD, files={"files": ("x.png", png())}, headers=headers)
    assert sent.status_code == expected
    asked = {**headers, "Access-Control-Request-Method": "POST"}
    assert stranger.http.options(JOIN, headers=asked).status_code in (400, 403, 404)


def test_what_changes_something_says_where_it_comes_from(served):
    before = served.uploads
    with httpx.Client(base_url=served.address) as client:
        client.get("/")
        for path in (JOIN, UPLOAD, "/gradio_api/cancel"):
            assert client.post(path, files={"files": ("x.png", png())}).status_code == 403
    assert served.uploads == before


def test_two_hosts_in_one_request(address):
    request = b"GET / HTTP/1.1\r\nHost: HOST\r\nHost: attacker.example\r\nConnection: close\r\n\r\n"
    assert raw(address, request).split()[1] == b"400"


def test_a_link_from_anywhere_opens_the_page(address):
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    answer = httpx.get(address, headers={**headers, "Sec-Fetch-Dest": "document"})
    assert answer.status_code == 200
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["x-content-type-options"] == "nosniff"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie


def test_headers_of_a_proxy_do_not_move_the_page(stranger):
    page = stranger.http.get("/", headers={"X-Forwarded-Host": "attacker.example"})
    assert page.status_code == 200 and "attacker.example" not in page.text


# Other visitors


def test_a_visitor_reads_its_own_upload_and_no_other_does(stranger, address):
    content = png(11, 7)
    (path,) = stranger.upload("my cat.png", content).json()
    assert "11 × 7 pixels" in stranger.choose(path)
    own = stranger.http.get(f"/gradio_api/file={path}")
    assert own.content == content and "attachment" in own.headers["content-disposition"]
    with Stranger(address) as other:
        assert other.http.get(f"/gradio_api/file={path}").status_code == 404
        answer = other.join("ib-file.upload", ["zoo:clip-scenes", file_data(path)])
        assert answer.status_code == 403
    token = path.partition("/")[0]
    for wrong in (token, f"{token}/", f"{token}/other.png", f"{path}/..", f"{path}/../{path}"):
        answer = stranger.join("ib-file.upload", ["zoo:clip-scenes", file_data(wrong)])
        assert answer.status_code == 403, wrong


def test_a_session_belongs_to_the_visitor_who_came_with_it(stranger, address):
    assert stranger.join("ib-model.input", ["zoo:vit-scenes"]).status_code == 200
    event = stranger.join("ib-stop.click", []).json()["event_id"]
    with Stranger(address, stranger.session) as other:
        assert other.http.get(DATA, params={"session_hash": other.session}).status_code == 403
        assert other.join("ib-stop.click", []).status_code == 403
        heartbeat = f"/gradio_api/heartbeat/{other.session}"
        assert other.http.get(heartbeat).status_code == 403
        for session in (other.session, "another1"):
            other.session = session
            other.join("ib-stop.click", [])
            cancel = {"session_hash": session, "event_id": event, "fn_index": 0}
            assert other.http.post("/gradio_api/cancel", json=cancel).status_code == 403
    assert '"success":true' in stranger.answers()


@pytest.mark.parametrize("session", ["", "x", "a/b", "../../x", "a" * 65, "stranger1%00"])
def test_what_is_no_session(stranger, session):
    stranger.session = session
    assert stranger.join("ib-model.input", ["zoo:vit-scenes"]).status_code == 403
    assert stranger.http.get(f"/gradio_api/heartbeat/{session}").status_code in (403, 404)


def test_without_a_cookie_there_is_the_page_only(address):
    with Stranger(address, visit=False) as visitor:
        visitor.functions = {"f": 0}
        assert visitor.join("f", ["zoo:clip-scenes"]).status_code == 403
        assert visitor.upload().status_code == 403
        assert visitor.http.get("/gradio_api/heartbeat/stranger1").status_code == 403
        visitor.http.cookies.set("captum-ib-1234", "x" * 43)
        assert visitor.upload().status_code == 403


# Limits


def test_a_file_of_too_many_bytes_is_not_kept(stranger, served):
    before = served.uploads
    for size, sent in ((200_001, {}), (1_300_000, {})):
        answer = stranger.http.post(UPLOAD, files={"files": ("x.png", b"0" * size)}, **sent)
        assert answer.status_code == 413

    def endless():
        yield b'--b\r\nContent-Disposition: form-data; name="files"; filename="x.png"\r\n\r\n'
        for _ in range(40):
            yield b"0" * 50_000

    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    assert stranger.http.post(UPLOAD, content=endless(), headers=kind).status_code == 413
    assert served.uploads == before


@pytest.mark.parametrize(
    "files",
    [
        [("files", ("x.png", png())), ("files", ("y.png", png()))],
        [("files", (None, "a field"))],
        [("path", (None, "/etc/passwd")), ("files", ("x.png", png()))],
    ],
)
def test_an_upload_is_one_file(stranger, files):
    assert stranger.http.post(UPLOAD, files=files).status_code == 400


def test_an_upload_that_is_no_form(stranger):
    for kind in ("application/json", "multipart/form-data", "multipart/form-data; boundary=b"):
        answer = stranger.http.post(UPLOAD, content=b"x", headers={"Content-Type": kind})
        assert answer.status_code == 400, kind


def test_a_call_is_short(stranger):
    answer = stranger.join("ib-model.input", ["x" * 64_000])
    assert answer.status_code == 413


NAMES = {
    "../../../etc/cron.d/x.png": "x.png",
    "..\\..\\x.png": "x.png",
    "/etc/passwd": "passwd",
    "..": "picture",
    ".bashrc": "bashrc",
    "<img src=x onerror=alert(1)>.png": "_img src=x onerror=alert(1)_.png",
    "x" * 500 + ".png": "x" * 116 + ".png",
}


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_a_file_is_no_path(stranger, served, name):
    (path,) = stranger.upload(name).json()
    token, _, called = path.partition("/")
    assert called == NAMES[name]
    assert (served.home / "uploads" / token).read_bytes() == png()
    assert f"<b>{called}</b>" in stranger.choose(path)


# What goes when


def test_an_upload_goes_when_another_picture_is_chosen(stranger, served):
    first, second = (stranger.upload(color).json()[0] for color in ("x.png", "y.png"))
    kept = [served.home / "uploads" / path.partition("/")[0] for path in (first, second)]
    stranger.choose(first)
    assert [file.exists() for file in kept] == [True, True]
    stranger.choose(second)
    assert [file.exists() for file in kept] == [False, True]
    stranger.choose(None)
    assert [file.exists() for file in kept] == [False, False]


def test_an_upload_goes_when_the_page_is_closed(stranger, served):
    gone = threading.Event()
    with stranger.http.stream("GET", f"/gradio_api/heartbeat/{stranger.session}") as open_page:
        alive = open_page.iter_text()  # kept: its end would close the connection
        assert next(alive).startswith("data: ALIVE")
        (path,) = stranger.upload().json()
        stranger.choose(path)
        file = served.home / "uploads" / path.partition("/")[0]
        assert file.exists()
    for _ in range(1000):
        if not file.exists():
            break
        gone.wait(0.02)
    assert not file.exists()
