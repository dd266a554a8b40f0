"""The client against a server that answers well, badly, slowly, or not at all: always an end, always one line."""

from __future__ import annotations

import json
import logging
import time

import pytest

from sam3d_gs.errors import UsageError
from sam3d_gs.vlm.client import Client, ServerError, ServerTimeoutError, checked_url
from tests.vlm.stub_server import Say, chat, closes, drip, endless, never, raw, redirect, serve, status

KEY = "sk-very-secret-123"


def test_a_reply_with_thinking() -> None:
    with serve(chat("\n\n[]", "I see nothing"), key=KEY) as stub:
        client = Client(stub.url + "/", KEY)
        assert client.models(5) == stub.models
        reply = client.chat({"model": "m"}, 5)
    assert (reply.content, reply.reasoning, reply.finish_reason, reply.tokens) == (
        "\n\n[]",
        "I see nothing",
        "stop",
        42,
    )


def test_thinking_that_never_closed() -> None:
    with serve(endless) as stub:
        reply = Client(stub.url).chat({"model": "m"}, 5)
    assert reply.content == ""
    assert reply.finish_reason == "length"


def test_content_in_parts() -> None:
    with serve(chat([{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}])) as stub:
        assert Client(stub.url).chat({"model": "m"}, 5).content == "ab"


@pytest.mark.parametrize(
    ("say", "words"),
    [
        (status(500), "HTTP 500 (it broke)"),
        (status(400, "too\nlong"), "HTTP 400 (too long)"),
        (status(404), "--model"),
        (status(429), "Wait"),
        (raw(b"<!doctype html>\n<h1>Hello</h1>"), "did not return JSON (<!doctype html>"),
        (raw(b"<h1>Bad gateway</h1>", code=502), "HTTP 502 (<h1>Bad gateway</h1>)"),
        (raw(b"[1, 2]", "application/json"), "no chat completion"),
        (raw(b'{"choices": []}', "application/json"), "no chat completion"),
        (raw(b'{"choices": [{"message": null}]}', "application/json"), "no chat completion"),
        (raw(b"[" * 100_000, "application/json"), "did not return JSON"),
        (raw(b'{"choices"', "application/json", length=500), "No answer"),
        (raw(b"\xff\xfe\x00", "application/json"), "did not return JSON"),
        (closes, "No answer"),
    ],
)
def test_bad_responses_are_one_line(say: Say, words: str) -> None:
    with serve(say) as stub, pytest.raises(ServerError) as caught:
        Client(stub.url).chat({"model": "m"}, 5)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("say", [never, drip])
def test_slow_servers_are_left_in_time(say: Say) -> None:
    with serve(say) as stub:
        started_s = time.monotonic()
        with pytest.raises(ServerTimeoutError, match="--request-timeout"):
            Client(stub.url).chat({"model": "m"}, 0.3)
        assert time.monotonic() - started_s < 1


def test_nobody_listens() -> None:
    with serve() as stub:
        pass
    with pytest.raises(ServerError, match="Is the server running"):
        Client(stub.url).models(2)


def test_the_key_is_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serve(key="another") as stub, pytest.raises(ServerError) as caught:
        Client(stub.url, KEY).chat({"model": "m"}, 5)
    assert caught.value.status == 401
    assert "--api-key-env" in str(caught.value)
    assert KEY not in str(caught.value) + caplog.text
    for bad in (KEY + "\nX-Evil: 1", KEY + " x", KEY + "é"):
        with pytest.raises(UsageError) as wrong:
            Client("http://127.0.0.1:1/v1", bad)
        assert KEY not in str(wrong.value)


def test_the_key_does_not_follow_a_redirect() -> None:
    with serve(chat("[]")) as other, serve(redirect(other.url + "/chat/completions")) as stub:
        with pytest.raises(ServerError, match="HTTP 302"):
            Client(stub.url, KEY).chat({"model": "m"}, 5)
        assert other.requests == []


@pytest.mark.parametrize(
    "host",
    ["example.org", "127.0.0.1.evil.com", "localhost.evil.com", "[::ffff:8.8.8.8]", "0x7f000001", "127.1", "2130706433",
     "0.0.0.0", "192.168.0.7", "[fe80::1]", "localhost.", "[::1].evil.com", "127.0.0.1:80.evil.com"],
)  # fmt: skip
def test_a_key_is_not_sent_in_the_clear(host: str) -> None:
    with pytest.raises(UsageError) as caught:
        Client(f"http://{host}/v1", KEY)
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_where_a_key_may_go(caplog: pytest.LogCaptureFixture) -> None:
    for host in ("127.0.0.1:8000", "127.9.9.9", "[::1]:80", "localhost", "LOCALHOST:1"):
        Client(f"http://{host}/v1", KEY)
    Client("https://example.org/v1", KEY)
    Client("http://example.org/v1")
    assert not caplog.records
    with pytest.raises(UsageError, match=r'https.*--api-key-env "".*--key-over-http'):
        Client("http://example.org/v1", KEY)
    Client("http://example.org/v1", KEY, key_over_http=True)
    assert "unencrypted" in caplog.text
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    "say",
    [
        raw(f"<html>you sent Bearer {KEY}</html>".encode()),
        raw(f"key {KEY} is wrong".encode(), code=403),
        raw(json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}}).encode(), code=401),
        raw(json.dumps({"no": f"choices for {KEY}"}).encode(), "application/json"),
        redirect(f"https://other.example/v1?key={KEY}"),
    ],
)
def test_a_server_that_repeats_the_key(say: Say) -> None:
    with serve(say) as stub, pytest.raises(ServerError) as caught:
        Client(stub.url, KEY).chat({"model": "m"}, 5)
    assert KEY not in str(caught.value)
    assert "<hidden>" in str(caught.value)


def test_a_key_in_the_answer_is_hidden() -> None:
    with serve(chat(f"I was sent {KEY}.", f"The key is {KEY}")) as stub:
        reply = Client(stub.url, KEY).chat({"model": "m"}, 5)
    assert reply.content == "I was sent <hidden>."
    assert KEY not in reply.reasoning
    with serve(chat("an EMPTY bottle")) as stub:
        assert Client(stub.url, "EMPTY").chat({"model": "m"}, 5).content == "an EMPTY bottle"


def test_no_proxy_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serve(chat("[]")) as stub:
        assert Client(stub.url).models(5)


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:8000", "file:///etc/passwd", "http://", "http://a b/v1", "http://h:99999/v1", "http://u:p@h/v1",
     "http://h/v1?key=x", "http://h\r\nX: 1/v1", "http://[::1/v1"],
)  # fmt: skip
def test_bad_addresses(url: str) -> None:
    with pytest.raises(UsageError, match="--base-url"):
        checked_url(url)


@pytest.mark.parametrize(
    "url", ["http://me:pass word@h/v1", "http://me:geheim@[h/v1", "ftp://me:geheim@h", "https://me:geheim@h/v1"]
)
def test_a_password_in_an_address_is_not_shown(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked_url(url)
    assert "geheim" not in str(caught.value)
    assert "pass word" not in str(caught.value)


def test_a_response_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sam3d_gs.vlm.client.MAX_RESPONSE_BYTES", 1000)
    with serve(raw(json.dumps(["x" * 100_000]).encode())) as stub, pytest.raises(ServerError, match="No answer"):
        Client(stub.url).chat({"model": "m"}, 5)
