"""Ask a vision-language model for the objects in one photo: the request, one retry, the answer as phrases."""

from __future__ import annotations

import base64
import io
import logging
import math
import time
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image

from sam3d_gs.errors import BadInputError, Sam3dGsError
from sam3d_gs.options import VlmOptions
from sam3d_gs.types import Photo, Phrase
from sam3d_gs.vlm.answer import Reading, read_reply
from sam3d_gs.vlm.client import Client, Reply, ServerError, ServerTimeoutError
from sam3d_gs.vlm.phrase_cleanup import MAX_DROPPED_TEXT, Dropped, clean_phrases

log = logging.getLogger("sam3d_gs")

QUESTION = "List the objects in this photo."
MAX_PROMPT_BYTES = 32_768
_SPARE_ROWS = 4  # requested beyond max_phrases, since duplicates and surfaces are dropped
_ANSWER_TOKENS = 1024  # reserved for the list itself when the thinking is limited
_PROMPT_TOKENS = 2048  # reserved for the system prompt and the chat template
_IMAGE_TOKEN_PX = 28  # side of the square that one token covers: 32 for Qwen3-VL, 28 for its predecessors
_TEMPERATURE, _TOP_P = 0.6, 0.95  # as Qwen recommends for thinking; greedy decoding tends to loop
# Fields that not every server accepts, in the order in which they are left out after HTTP 400 or 422.
_OPTIONAL = (
    ("thinking_token_budget", "chat_template_kwargs"),
    ("response_format", "max_tokens", "temperature", "top_p", "seed"),
)


@dataclass
class Transcript:
    """The requests and answers about one photo, for answer.json; filled in as they happen."""

    model: str
    system_prompt: str
    attempts: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[dict[str, str]] = field(default_factory=list)


def context_tokens(options: VlmOptions) -> int:
    """The context length that the server needs for one photo, rounded up to a multiple of 1024."""
    image = math.ceil(options.sent_side_px / _IMAGE_TOKEN_PX) ** 2
    return math.ceil((image + _PROMPT_TOKENS + options.max_tokens) / 1024) * 1024


def system_prompt(options: VlmOptions) -> str:
    """The text of prompt.md or of the user's file. Raises BadInputError."""
    path = options.system_prompt
    try:
        text = path.read_text(encoding="utf-8-sig") if path else _default_prompt()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path} is not a readable text file for --system-prompt: {error}.") from error
    if not text.strip() or len(text.encode()) > MAX_PROMPT_BYTES:
        raise BadInputError(f"{path} is empty or larger than {MAX_PROMPT_BYTES} bytes. Give another --system-prompt.")
    return text.strip().replace("{max_phrases}", str(options.max_phrases))


def _default_prompt() -> str:
    return (files("sam3d_gs.vlm") / "prompt.md").read_text(encoding="utf-8")


class Asker:
    """Asks one server for the objects in photos."""

    def __init__(self, client: Client, options: VlmOptions, thinking: bool = True) -> None:
        """`thinking`: the model thinks before it answers, so its thinking is limited. Raises BadInputError."""
        self._client, self._options = client, options
        self._prompt = system_prompt(options)
        self._left_out = 0 if thinking else 1  # how many groups of _OPTIONAL are not sent
        self.transcript: Transcript | None = None  # of the last photo, even if it failed

    def ask(self, photo: Photo) -> list[Phrase]:
        """Phrases, best first. If the first try gives no list, the second one asks without thinking.

        Raises Sam3dGsError when neither gives a phrase.
        """
        options = self._options
        transcript = self.transcript = Transcript(options.model, self._prompt)
        reading = self._reading(photo, transcript)
        size_px = (photo.width_px, photo.height_px)
        phrases, dropped = clean_phrases(reading.named, size_px, options.max_phrases, options.include_surfaces)
        dropped = [*dropped, *(Dropped(text[:MAX_DROPPED_TEXT], reason) for text, reason in reading.unused)]
        transcript.dropped = [asdict(row) for row in dropped]
        if reading.cut_off:
            log.warning("%s: the list was cut off; its %d complete rows are kept.", photo.name, len(reading.named))
        if reading.unused:
            log.warning(
                "%s: the answer also lists %d that were not taken, e.g. %r (%s); all are in answer.json.",
                photo.name,
                len(reading.unused),
                *reading.unused[0],
            )
        if not phrases:
            reasons = "; ".join(f"{row.text!r:.60}: {row.reason}" for row in dropped[:3]) or "an empty list"
            raise Sam3dGsError(
                f"{options.model} named nothing usable in {photo.path.name} ({reasons}). Name the objects "
                'yourself with --phrases "red cup", or allow walls and floors with --include-surfaces.'
            )
        return phrases

    def _reading(self, photo: Photo, transcript: Transcript) -> Reading:
        url = data_url(photo.rgb, self._options.sent_side_px)
        for thinking_tokens, last in ((self._options.thinking_tokens, False), (0, True)):
            try:
                reading = self._try(url, thinking_tokens, transcript)
                problem = reading.problem
            except ServerError as error:
                if last or not _is_transient(error):
                    raise
                problem = str(error)
            else:
                if not problem:
                    return reading
            if not last:
                log.warning("%s: %s Trying again without thinking.", photo.name, problem)
        raise Sam3dGsError(
            f"{self._options.model} gave no list of objects for {photo.path.name}, not even without thinking: "
            f"{problem} The full answers are in answer.json. "
            'Name the objects yourself with --phrases "red cup", or try another --model.'
        )

    def _try(self, url: str, thinking_tokens: int, transcript: Transcript) -> Reading:
        attempt: dict[str, Any] = {"thinking_tokens": thinking_tokens}
        transcript.attempts.append(attempt)
        started_s = time.perf_counter()
        try:
            reply = self._chat(url, thinking_tokens)
        except ServerError as error:
            attempt |= {"error": str(error)}
            raise
        finally:
            attempt["seconds"] = round(time.perf_counter() - started_s, 2)
        attempt |= asdict(reply)
        reading = read_reply(reply, self._prompt)
        if reading.problem:
            attempt["problem"] = reading.problem
        return reading

    def _chat(self, url: str, thinking_tokens: int) -> Reply:
        """Send as many of the optional fields as this server accepts; what it rejects is not sent again."""
        while True:
            try:
                return self._client.chat(self._request(url, thinking_tokens), self._options.request_timeout_s)
            except ServerError as error:
                if error.status not in (400, 422) or self._left_out == len(_OPTIONAL):
                    raise
                log.info("%s Asking again with fewer options.", error)
                self._left_out += 1

    def _request(self, url: str, thinking_tokens: int) -> dict[str, Any]:
        think = thinking_tokens > 0
        max_tokens = self._options.max_tokens if think else min(self._options.max_tokens, _ANSWER_TOKENS)
        photo = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": QUESTION}]
        schema = {"name": "objects", "schema": answer_schema(self._options.max_phrases)}
        fields: dict[str, Any] = {
            "model": self._options.model,
            "messages": [{"role": "system", "content": self._prompt}, {"role": "user", "content": photo}],
            "max_tokens": max_tokens,
            "temperature": _TEMPERATURE,
            "top_p": _TOP_P,
            "seed": int(not think),  # a model that does not think would else give the same answer twice
            "response_format": {"type": "json_schema", "json_schema": schema},
            # vLLM: the budget limits the thinking of models that always think, the switch turns it off in the others.
            "thinking_token_budget": min(thinking_tokens, max_tokens - min(_ANSWER_TOKENS, max_tokens // 2)),
            "chat_template_kwargs": {"enable_thinking": think},
        }
        left_out = {name for names in _OPTIONAL[: self._left_out] for name in names}
        return {name: value for name, value in fields.items() if name not in left_out}


def _is_transient(error: ServerError) -> bool:
    """True for a timeout, a broken connection or a server error, which a retry may get past; False for a refusal."""
    return isinstance(error, ServerTimeoutError) or error.status == 0 or error.status >= 500


def answer_schema(max_phrases: int) -> dict[str, Any]:
    """JSON schema of the answer. Everything in it is bounded: a model could fill an open list forever."""
    side = {"type": "integer", "minimum": 0, "maximum": 1000}
    row = {
        "type": "object",
        "properties": {
            "phrase": {"type": "string", "minLength": 1, "maxLength": 80},
            "count": {"type": "integer", "minimum": 1, "maximum": 99},
            "box": {"type": "array", "items": side, "minItems": 4, "maxItems": 4},
        },
        "required": ["phrase"],
        "additionalProperties": False,
    }
    rows = {"type": "array", "items": row, "maxItems": max_phrases + _SPARE_ROWS}
    return {
        "type": "object",
        "properties": {"objects": rows},
        "required": ["objects"],
        "additionalProperties": False,
    }


def data_url(rgb: np.ndarray, longest_px: int) -> str:
    """The photo, (H, W, 3) uint8 RGB, as a JPEG data URL whose longer side is at most `longest_px`."""
    image = Image.fromarray(rgb)
    image.thumbnail((longest_px, longest_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
