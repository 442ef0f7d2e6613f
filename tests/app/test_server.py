"""What stands around the page: addresses, limits of requests, and what ends with the process."""

from __future__ import annotations

import asyncio
import socket

import pytest

from captum_ib.app.server import BodyLimit, is_loopback, listen, scratch
from captum_ib.cli import main


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.7", False),
        ("localhost.example.org", False),
    ],
)
def test_loopback(host, expected):
    assert is_loopback(host) is expected


def test_port_0_takes_a_free_one():
    with listen("127.0.0.1", 0) as first, listen("127.0.0.1", 0) as second:
        assert first.getsockname()[1] != second.getsockname()[1]


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"can't listen at 127.0.0.1, port {port} .*--port 0"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize("port", [-1, 65536])
def test_no_such_port(port):
    with pytest.raises(ValueError, match=f"--port must lie in 0 to 65535, got {port}"):
        listen("127.0.0.1", port)


def test_the_scratch_folder_goes_with_an_error():
    with pytest.raises(KeyboardInterrupt), scratch() as folder:
        (folder / "x").write_text("")
        raise KeyboardInterrupt
    assert not folder.exists()


def _request(length: int | None, chunks: list[bytes], limit: int) -> tuple[list[str], list[dict]]:
    """What the application behind sees, and what is sent back."""
    seen: list[str] = []
    sent: list[dict] = []
    waiting = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]

    async def application(scope, receive, send):
        for _ in chunks:
            seen.append((await receive())["type"])

    async def receive():
        return waiting.pop(0)

    async def send(message):
        sent.append(message)

    headers = [] if length is None else [(b"content-length", str(length).encode())]
    scope = {"type": "http", "headers": headers}
    asyncio.run(BodyLimit(application, limit)(scope, receive, send))
    return seen, sent


def test_a_body_within_the_limit_passes():
    assert _request(4, [b"ab", b"cd"], 4) == (["http.request"] * 2, [])


@pytest.mark.parametrize("length", [5, "many"])
def test_an_announced_body_over_the_limit_is_not_read(length):
    seen, sent = _request(length, [b"abcde"], 4)
    assert seen == [] and sent[0]["status"] == 413
    assert b"too large, at most 4 bytes" in sent[1]["body"]


def test_a_body_that_grows_over_the_limit_is_cut():
    assert _request(None, [b"ab", b"cd", b"e"], 4)[0] == ["http.request"] * 2 + ["http.disconnect"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "no-such-model"], "unknown model 'no-such-model'"),
        (["--port", "70000"], "--port must lie in 0 to 65535"),
        (["--max-megabytes", "0"], "the limit in megabytes must be above 0"),
        (["--device", "no-such-device"], "device 'no-such-device' can't be used"),
    ],
)
def test_mistakes_get_one_line(capsys, arguments, message):
    pytest.importorskip("gradio", reason="the page needs the extra app")
    assert main(["app", "--port", "0", *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == "" and message in output.err and output.err.count("\n") == 1


def test_without_gradio_the_command_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    assert main(["app", "--port", "0"]) == 2
    assert "captum-ib app needs the package gradio: pip install 'captum_ib[app]'" in (
        capsys.readouterr().err
    )
