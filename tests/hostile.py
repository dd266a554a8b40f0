"""Damaged files: seeded mutations of JSON and .pt files."""

from __future__ import annotations

import copy
import io
import json
import random
import re
from collections.abc import Callable
from typing import Any

import torch

JUNK: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    7,
    1.5,
    10**30,
    -(10**300),
    "",
    "text",
    "../victim",
    "/victim",
    "a\x00b",
    "\x1b[2J",
    "\ud800",
    "x" * 5000,
    [],
    [None],
    [[[]]],
    {},
    {"a": 1},
    [1, 2, 3, 4],
]
TEXTS = ["1e400", "-1e400", "NaN", "Infinity", "[" * 3000, "{", '"', "1" * 5000, "\x00", "\ufeff", "\\ud800", "//"]


def damaged_json(text: str, rng: random.Random) -> bytes:
    """The JSON file with one or two things wrong: in its values, its structure or its bytes."""
    if rng.random() < 0.25:
        return _damaged_bytes(text.encode(), rng)
    data = json.loads(text)
    for _ in range(rng.choice((1, 1, 2))):
        data = _damaged_value(data, rng)
    return json.dumps(data).encode()


def _damaged_bytes(raw: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(raw))
    numbers = list(re.finditer(rb"-?\d+(\.\d+)?", raw))
    choices: list[Callable[[], bytes]] = [
        lambda: raw[:place],
        lambda: raw[:place] + bytes([rng.randrange(256)]) + raw[place + 1 :],
        lambda: raw[:place] + rng.choice(TEXTS).encode("utf-8", "surrogatepass") + raw[place:],
        lambda: raw + raw,
        lambda: raw.decode(errors="replace").encode("utf-16"),
        lambda: b"",
    ]
    if numbers:
        number = rng.choice(numbers)
        choices += 3 * [lambda: raw[: number.start()] + rng.choice(TEXTS[:4]).encode() + raw[number.end() :]]
    return rng.choice(choices)()


def _damaged_value(data: Any, rng: random.Random) -> Any:
    data = copy.deepcopy(data)
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        for key in value if isinstance(value, dict) else range(len(value)):
            places.append((value, key))
            if isinstance(value[key], (dict, list)):
                walk(value[key])

    if not isinstance(data, (dict, list)):
        return data
    walk(data)
    if not places or rng.random() < 0.02:
        return rng.choice(JUNK)
    holder, key = rng.choice(places)
    what = rng.choice(("junk", "junk", "junk", "delete", "wrap", "twice", "rename", "swap"))
    if what == "junk":
        holder[key] = rng.choice(JUNK)
    elif what == "delete":
        del holder[key]
    elif what == "wrap":
        holder[key] = [holder[key]]
    elif what == "twice" and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif what == "rename" and isinstance(holder, dict):
        holder[str(rng.choice(JUNK))] = holder.pop(key)
    else:
        other, place = rng.choice(places)
        holder[key] = copy.deepcopy(other[place])
    return data


def damaged_pt(content: dict[str, Any], rng: random.Random) -> bytes:
    """A .pt file with one value wrong, or with its bytes damaged."""
    content = dict(content)
    key = rng.choice(list(content))
    if rng.random() < 0.2:
        del content[key]
    elif isinstance(content[key], torch.Tensor):
        content[key] = rng.choice(_TENSORS)(content[key])
    else:
        content[key] = rng.choice([*JUNK, torch.ones(3), 10**400, float("nan"), float("inf")])
    stream = io.BytesIO()
    torch.save(content, stream)
    raw = stream.getvalue()
    if rng.random() < 0.15:
        raw = _damaged_bytes(raw, rng) if rng.random() < 0.5 else raw[: rng.randrange(len(raw))]
    return raw


_TENSORS: list[Callable[[torch.Tensor], Any]] = [
    lambda t: t.to("meta"),
    lambda t: t.to(torch.int64),
    lambda t: t.to(torch.complex64),
    lambda t: t.to(torch.bfloat16),
    lambda t: t.to_sparse() if t.ndim else t.to(torch.bool),
    lambda t: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.qint8),
    lambda t: t.clone().requires_grad_(),
    lambda t: t * float("nan"),
    lambda t: t * 1e38,
    lambda t: t[:0] if t.ndim else t,
    lambda t: t.reshape(-1),
    lambda t: t[None],
    lambda t: torch.zeros(1, dtype=t.dtype).expand(10**9),
    lambda t: t.tolist(),
    lambda t: None,
    lambda t: torch.nested.nested_tensor([t.reshape(-1)]),
    lambda t: torch.nn.Parameter(t),
]
