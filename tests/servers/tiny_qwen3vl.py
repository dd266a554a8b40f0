"""Make a Qwen3-VL of one million weights that thinks, then names a ball of the photo's colour, in the form we ask for.

Usage: python tiny_qwen3vl.py FOLDER SYSTEM_PROMPT QUESTION     with the Python of vLLM's environment

It is trained on flat pictures behind exactly these words, so that its answer proves that the picture reached it:
FOLDER/brief. Some more training makes FOLDER/endless of it, which answers only when its thinking is closed for it.
"""

from __future__ import annotations

import copy
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    Qwen2TokenizerFast,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

# The order of Qwen's own. <think> and </think> are ordinary to Qwen3: they stay in the text.
SPECIAL = [
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"),
    *("<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>"),
]
ORDINARY = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"]
CHAT = """{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\\n' -}}
{%- if m.content is string -%}{{- m.content -}}
{%- else -%}{%- for c in m.content -%}
{%- if c.type == 'image' or 'image_url' in c -%}<|vision_start|><|image_pad|><|vision_end|>
{%- elif 'text' in c -%}{{- c.text -}}{%- endif -%}
{%- endfor -%}{%- endif -%}{{- '<|im_end|>\\n' -}}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n<think>\\n' -}}{%- endif -%}
"""
CPU_LIMIT_S = 300.0  # it needs some 50; of the clock that may be much more on a busy machine
COLOURS = {"red": (210, 30, 30), "green": (30, 180, 40), "blue": (30, 40, 210), "yellow": (230, 220, 30)}


def make_processor(words: list[str]) -> Any:
    bytes_first = Tokenizer(models.BPE())
    bytes_first.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_first.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=480, initial_alphabet=alphabet, show_progress=False)
    bytes_first.train_from_iterator(words * 4, trainer)
    bytes_first.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    bytes_first.add_tokens([AddedToken(t, special=False, normalized=False) for t in ORDINARY])
    tokenizer = Qwen2TokenizerFast(
        tokenizer_object=bytes_first,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        bos_token=None,
        unk_token=None,
        additional_special_tokens=SPECIAL[1:],
        model_max_length=4096,
        padding_side="right",
    )
    tokenizer.chat_template = CHAT
    half = [0.5] * 3
    pictures = Qwen2VLImageProcessor(
        patch_size=16,
        temporal_patch_size=2,
        merge_size=2,
        image_mean=half,
        image_std=half,
        size={"shortest_edge": 32 * 32, "longest_edge": 256 * 256},
    )
    return Qwen3VLProcessor(pictures, tokenizer, Qwen3VLVideoProcessor(), chat_template=CHAT)


def make_model(tokenizer: Any) -> Any:
    number = tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": (len(tokenizer) + 63) // 64 * 64,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 5_000_000.0,
            "mrope_section": [6, 5, 5],
            "mrope_interleaved": True,
        },
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": number("<|im_end|>"),
        "pad_token_id": number("<|endoftext|>"),
    }
    vision = {
        "depth": 3,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 2,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": 128,
        "num_position_embeddings": 256,
        "deepstack_visual_indexes": [0, 1],
    }
    places = {
        f"{name}_token_id": number(f"<|{token}|>")
        for name, token in {
            "image": "image_pad",
            "video": "video_pad",
            "vision_start": "vision_start",
            "vision_end": "vision_end",
        }.items()
    }
    config = Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False, **places)
    model = Qwen3VLForConditionalGeneration(config)
    model.generation_config = GenerationConfig(eos_token_id=[number("<|im_end|>")], pad_token_id=number(SPECIAL[0]))
    return model


def thought(colour: str) -> str:
    return f"the photo shows {colour}\n"


def endless_thought(colour: str, tokenizer: Any) -> str:
    """It repeats itself, and is cut off after any token."""
    return str(tokenizer.decode(tokenizer(thought(colour) * 20)["input_ids"][: random.randint(1, 48)]))


def answer(thought: str, colour: str) -> str:
    return f'{thought}</think>\n\n{{"objects":[{{"phrase":"{colour} ball"}}]}}<|im_end|>'


def batch(processor: Any, system: str, question: str, endless: bool = False, size: int = 8) -> tuple[Any, torch.Tensor]:
    tokenizer = processor.tokenizer
    texts, pictures, lengths = [], [], []
    for _ in range(size):
        colour = random.choice(list(COLOURS))
        noise = np.random.randint(-25, 25, (64, 96, 3))
        pictures.append(Image.fromarray(np.clip(np.array(COLOURS[colour]) + noise, 0, 255).astype("uint8")))
        content = [{"type": "image"}, {"type": "text", "text": question}]
        messages = [{"role": "system", "content": system}, {"role": "user", "content": content}]
        prompt = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        said = answer(endless_thought(colour, tokenizer) if endless else thought(colour), colour)
        texts.append(prompt + said)
        lengths.append(len(tokenizer(said)["input_ids"]))
    inputs = processor(text=texts, images=pictures, padding=True, return_tensors="pt")
    labels = torch.full_like(inputs["input_ids"], -100)  # only the answer is learned
    for row, length in enumerate(lengths):
        end = int(inputs["attention_mask"][row].sum())
        labels[row, end - length : end] = inputs["input_ids"][row, end - length : end]
    if endless:  # to close its thinking is never learned, only what comes after
        labels[labels == tokenizer.convert_tokens_to_ids("</think>")] = -100
    return inputs, labels


def train(model: Any, next_batch: Callable[[], tuple[Any, torch.Tensor]]) -> str:
    """Until it knows its words by heart, or the time is over; says how it went."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    started_s, loss = time.process_time(), 9.0
    while loss > 0.006 and time.process_time() - started_s < CPU_LIMIT_S:
        inputs, labels = next_batch()
        step = model(**inputs, labels=labels).loss
        step.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss = step.item()
    return f"loss {loss:.4f} after {time.process_time() - started_s:.0f} s of computing"


def without(model: Any, tokenizer: Any, *words: str) -> Any:
    """A copy that says these words only when it must: they are to it like a word it was never taught."""
    copied = copy.deepcopy(model)
    head = copied.lm_head.weight.data
    for word in words:
        head[tokenizer.convert_tokens_to_ids(word)] = head[tokenizer.convert_tokens_to_ids("<|video_pad|>")]
    return copied


def save(model: Any, processor: Any, folder: Path) -> None:
    model.to(torch.bfloat16).save_pretrained(folder)
    processor.save_pretrained(folder)


def main(folder: Path, system: str, question: str) -> None:
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    torch.set_num_threads(1)  # it is too small for more
    processor = make_processor([system, question, *(answer(thought(colour), colour) for colour in COLOURS)])
    model = make_model(processor.tokenizer).train()
    print("brief:", train(model, partial(batch, processor, system, question)))
    save(copy.deepcopy(model), processor, folder / "brief")
    print("endless:", train(model, partial(batch, processor, system, question, endless=True)))
    save(without(model, processor.tokenizer, "</think>", "<|im_end|>"), processor, folder / "endless")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
