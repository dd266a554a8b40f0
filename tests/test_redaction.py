"""Keys and passwords are hidden, other text stays."""

from __future__ import annotations

import time

import pytest

from sam3d_gs.redaction import redacted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("--api-key sk-abc --x", "--api-key <hidden> --x"),
        ("--api-key='a b' --x 1", "--api-key=<hidden> --x 1"),
        ("--hf-token hf_x", "--hf-token <hidden>"),
        ("HF_TOKEN=abc --enforce-eager", "HF_TOKEN=<hidden> --enforce-eager"),
        ("non-default args: {'api_key': ['abc']}", "non-default args: {'api_key': [<hidden>]}"),
        ("http://me:pw@host/v1?key=abc&x=1", "http://<hidden>@host/v1?key=<hidden>&x=1"),
        ("Authorization: Bearer abc", "Authorization: <hidden> abc"),
        ("your key sk-abcdefgh1 is wrong", "your key <hidden> is wrong"),
    ],
)
def test_keys_are_hidden(text: str, shown: str) -> None:
    assert redacted(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "--tokenizer a/b --max-num-batched-tokens 512 --ssl-keyfile a.pem",
        "--hf-overrides '{\"pad_token\": 5}'",
        "http://127.0.0.1:8000/v1",
        "a red key on a desk-lamp",
        "",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert redacted(text) == text


def test_known_secrets_are_hidden_wherever_they_are() -> None:
    assert redacted("xgeheim1x", "geheim1") == "x<hidden>x"
    assert redacted("an EMPTY bottle", "EMPTY", "") == "an EMPTY bottle"


@pytest.mark.parametrize("piece", ["a", "-", "://", "api", "--api_", "A_", 'token="', "Basic ", "?key="])
def test_long_texts_are_quick(piece: str) -> None:
    started_s = time.process_time()
    redacted(piece * (100_000 // len(piece)))
    assert time.process_time() - started_s < 5
