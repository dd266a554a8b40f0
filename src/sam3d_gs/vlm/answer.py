"""Read the list of objects in a language model's reply, whole or not at all.

The thinking is taken away; every list in the rest is a candidate (JSON as `loose_json` reads it, else `text_lists`);
examples, drafts and plans are dropped; the lists that are parts of one answer are joined. What is left out of the
result is in `unused` with the reason; a reply without a list of objects has a `problem`.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from sam3d_gs.vlm.client import Reply, excerpt
from sam3d_gs.vlm.loose_json import Container, Found, find_values
from sam3d_gs.vlm.names import Named, holds_list, names_in
from sam3d_gs.vlm.tables import TextList
from sam3d_gs.vlm.text_lists import find_lists, whole_list

MAX_READ = 100_000  # characters; a longer answer counts as cut off
MAX_NAMED = 1000
_MAX_INTRO = 300  # characters before a list that can be about it
_MAX_LABEL_WORDS = 8  # between two lists that belong together: "Background objects:"

_THINKS = r"(?:seed:)?(?:think|thinking|thought|thoughts|reasoning|reflection|analysis|scratchpad)"
_THINKING_STARTS = re.compile(rf"<{_THINKS}>|◁think▷|\[THINK\]|<\|channel\|>analysis<\|message\|>", re.IGNORECASE)
_THINKING_ENDS = re.compile(rf"</{_THINKS}>|◁/think▷|\[/THINK\]|<\|channel\|>final<\|message\|>", re.IGNORECASE)
_MARKED = re.compile(r"<(prompt_list|answer|final_answer|output|result|response)>|<\|begin_of_box\|>", re.IGNORECASE)
_FENCE = re.compile(r"```[\w-]*")
_LABEL = re.compile(r"[\w ]{0,40}[:=]?")
_BETWEEN_PARTS = re.compile(r"(?:[\s,;]|```[\w-]*|</?[\w|=:]{1,40}>|\d{1,3}[.)]|[-*•])*")
_REFUSAL = re.compile(
    r"\W*(?:i['’]?m (?:very |really |so )?sorry|i am sorry|sorry|i apologi[sz]e|unfortunately|as an ai"
    r"|i (?:can(?:no|['’])?t|am (?:not able|unable)|['’]m (?:not able|unable)|won['’]t|do(?: not|n['’]t) (?:see|have))"
    r"|i['’]m (?:not able|unable)|抱歉|对不起|我无法)",
    re.IGNORECASE,
)
# What the words before a list say about it.
_EXAMPLE = re.compile(
    r"\b(?:such as|like(?: this)?|for example|for instance|examples?|samples?|drafts?|first (?:try|thought)|instead of"
    r"|rather than|(?:would|could) (?:write|say|answer|list|be)"
    r"|(?:format|form|schema|template) (?:is|of|should be|would be|must be))\W*(?:[\w']+\W*){0,3}$",
    re.IGNORECASE,
)
_LEFT_OUT = re.compile(
    r"\b(?:exclud\w+|except|ignor\w+|omit\w*|skipp\w+|(?:left|leave|leaving) out|not (?:includ\w+|list\w+|objects?)"
    r"|notes?|rules?|remarks?|steps?|plan|thinking process|reasoning)\W*(?:[\w']+\W*){0,3}$",
    re.IGNORECASE,
)
_FINAL = re.compile(
    r"\b(?:final\w*|answer|result|output|therefore|correct\w*|revised|updated|complete|full)\b", re.IGNORECASE
)
_REVISION = re.compile(
    r"\b(?:wait|actually|correction|corrected|on second thought|revised|updated|let me (?:re|correct|fix|update))",
    re.IGNORECASE,
)
_ASCII = str.maketrans("［］｛｝【】＂＇", "[]{}[]\"'") | {ord("，"): ", ", ord("："): ": ", ord("\ufeff"): None}


@dataclass(frozen=True)
class Reading:
    """What a reply says."""

    named: tuple[Named, ...] = ()
    unused: tuple[tuple[str, str], ...] = ()  # (text, reason): listed in the reply, but not taken
    problem: str = ""  # why it was not understood; "" for a list, be it empty
    cut_off: bool = False  # the list's end is missing


@dataclass
class _Candidate:
    start: int
    end: int
    named: list[Named]
    unused: list[tuple[str, str]]
    intro: str = ""  # the text since the candidate before
    is_json: bool = True
    is_list: bool = True  # else only words that may be a list: [words] in prose
    complete: bool = True
    first_number: int | None = None
    last_number: int | None = None
    source: str = field(default="", repr=False)

    @property
    def keys(self) -> set[str]:
        return {named.text.casefold() for named in self.named}


def read_reply(reply: Reply, prompt: str = "") -> Reading:
    """The objects that the reply names. `prompt`: lists that it holds are examples. Never raises."""
    cut_off = reply.finish_reason == "length"
    if reply.tool_arguments:
        reading = _read(_plain(reply.tool_arguments), prompt, cut_off, sure=True)
        if not reading.problem:
            return reading
    text = _plain(reply.content)
    cut_off |= len(text) > MAX_READ
    thinking, answer = _without_thinking(text)
    if answer.strip():
        return _read(answer, prompt, cut_off, sure=bool(thinking or reply.reasoning.strip()))
    thinking = thinking.strip() or _plain(reply.reasoning).strip()
    draft = None if cut_off else _draft_in(thinking, prompt)
    if draft:
        return draft
    if _begins_with_json(thinking):  # the server took the whole answer for thinking
        return _read(thinking, prompt, cut_off, sure=True)
    if cut_off:
        return Reading(problem="The model had not finished its answer at --max-tokens: its thinking was cut off.")
    if reply.refusal:
        return Reading(problem=f'The model refused: "{excerpt(reply.refusal, 80)}".')
    return Reading(problem="The model's answer is empty.")


def _plain(text: str) -> str:
    """The text as the model meant it: not escaped once more, and with ASCII punctuation."""
    for _ in range(3):  # a JSON string as a whole
        stripped = text.strip()
        if not (stripped.startswith('"') and stripped.endswith('"')):
            break
        try:
            text = str(json.loads(stripped, strict=False))
        except ValueError:
            break
    if re.match(r'[^"]*[\[{]\s*\\"', text):  # and no quote before that
        text = text.replace('\\"', '"').replace("\\n", "\n")
    if re.search(r"&(?:quot|lt|apos|#34|#39|#x27);", text):
        text = html.unescape(text)
    text = text.translate(_ASCII).encode("utf-8", "replace").decode()  # no halves of surrogate pairs
    tail = len(text) > MAX_READ and _THINKING_ENDS.search(text)
    return text[-MAX_READ - 1 :] if tail else text[: MAX_READ + 1]


def _without_thinking(text: str) -> tuple[str, str]:
    """(thinking, answer); the answer is empty when the thinking never ended."""
    thinking = ""
    for end in _THINKING_ENDS.finditer(text):
        thinking, answer = text[: end.start()], text[end.end() :]
    answer = text[len(thinking) :] if not thinking else answer
    if start := _THINKING_STARTS.search(answer):
        thinking, answer = thinking + answer[start.end() :], answer[: start.start()]
    return thinking, _THINKING_ENDS.sub("", answer)


def _begins_with_json(text: str) -> bool:
    return bool(re.match(r"\s*(?:```[\w-]*\s*)?[\[{]", text))


def _read(text: str, prompt: str, cut_off: bool, sure: bool) -> Reading:
    """The list in an answer. `sure`: it is known to be no thinking, which a server may fail to tell apart."""
    marked = _marked(text)
    candidates = _candidates(marked) or _unmarked(marked)
    if candidates:
        text, sure = marked, True
    else:
        candidates = _candidates(text)
    if refused := _REFUSAL.match(text):
        candidates = [candidate for candidate in candidates if candidate.is_json]
    elif not candidates and not cut_off:
        candidates = _unmarked(text)
    if cut_off and not sure:
        candidates = [c for c in candidates if _is_answer(c, text)]
    chosen, left = _choose(candidates, prompt)
    if chosen:
        return _joined(chosen, left, cut_off and chosen[-1].end >= len(text.rstrip()))
    if cut_off:
        thinking = "" if sure or _begins_with_json(text) else ": perhaps its thinking was cut off"
        return Reading(problem=f"The model had not finished its answer at --max-tokens{thinking}.")
    if refused:
        return Reading(problem=f'The model refused: "{excerpt(text, 80)}".')
    if any(candidate.is_json and candidate.is_list for candidate in candidates):
        return Reading()
    return Reading(problem=f'The model\'s answer was not understood, it holds no list: "{excerpt(text, 80)}".')


def _marked(text: str) -> str:
    """What stands between marks of the answer, such as <answer>...</answer>; "" without any."""
    parts = []
    for opening in list(_MARKED.finditer(text))[:100]:
        closing = f"</{opening[1]}>" if opening[1] else "<|end_of_box|>"
        end = text.find(closing, opening.end())
        parts.append(text[opening.end() : end if end >= 0 else len(text)])
        if end < 0:
            break
    return "\n\n".join(parts)


def _is_answer(candidate: _Candidate, text: str) -> bool:
    """Whether a list in a text that was cut off is the answer, and not a draft in thinking that was cut off."""
    before = text[max(0, candidate.start - _MAX_INTRO) : candidate.start]
    fenced = bool(re.search(r"```[\w-]*\s*\Z", before))
    before = _FENCE.sub("", before).strip()
    begins = candidate.start < _MAX_INTRO and len(before.split()) <= _MAX_LABEL_WORDS
    begins = begins and not re.search(r"[.!?]\s", before)
    ends = not text[candidate.end :].strip("` \t\r\n]}")
    return candidate.is_json and ((begins and not before) or (ends and (candidate.complete or begins or fenced)))


def _candidates(text: str, are_drafts: bool = False) -> list[_Candidate]:
    """All lists in the text, in order; those without JSON only where there is no JSON but examples."""
    values = find_values(text)
    data = [value for value in values if value.value.is_data]
    if not data and len(values) == 1 and _LABEL.fullmatch(_outside(text, values[0])):
        data = values
    found = [_from_json(text, run) for run in _runs(text, data, are_drafts)]
    found = _with_intros(text, [c for c in found if not _is_remark(text, c)])
    if not any((c.named or c.unused) and not _is_example(c) for c in found):
        found += [_from_lines(text_list) for text_list in find_lists(text) if not text_list.is_plan]
        found = _with_intros(text, sorted(found, key=lambda c: c.start))
    return found


def _outside(text: str, found: Found) -> str:
    return _FENCE.sub("", text[: found.start] + text[found.end :]).strip()


def _with_intros(text: str, candidates: list[_Candidate]) -> list[_Candidate]:
    end = 0
    for candidate in candidates:
        candidate.intro = text[end : candidate.start]
        end = candidate.end
    return candidates


def _is_example(candidate: _Candidate) -> bool:
    return bool(_EXAMPLE.search(_last_words(candidate.intro)))


def _runs(text: str, values: Sequence[Found], are_drafts: bool) -> list[list[Found]]:
    """Values with nothing between them that matters, such as one object per line, belong together; drafts do not."""
    runs: list[list[Found]] = []
    for value in values:
        gap = _BETWEEN_PARTS.match(text, runs[-1][-1].end) if runs else None
        separate = are_drafts and holds_list(value.value)
        if gap and gap.end() >= value.start and not separate and not _is_example_list(text, runs):
            runs[-1].append(value)
        else:
            runs.append([value])
    return runs


def _is_example_list(text: str, runs: Sequence[Sequence[Found]]) -> bool:
    """Whether the last run is a list of its own that the words before it call an example."""
    before = text[runs[-2][-1].end if len(runs) > 1 else 0 : runs[-1][0].start]
    return len(runs[-1]) == 1 and holds_list(runs[-1][0].value) and bool(_EXAMPLE.search(_last_words(before)))


def _from_json(text: str, values: Sequence[Found]) -> _Candidate:
    value = values[0].value if len(values) == 1 else Container([(None, found.value) for found in values], closed=True)
    names = names_in(value)
    start, end = values[0].start, values[-1].end
    return _Candidate(
        start,
        end,
        names.named,
        names.unused,
        is_list=names.quoted or names.is_list,
        complete=all(found.value.closed for found in values),
        source=text[start:end],
    )


def _from_lines(found: TextList) -> _Candidate:
    return _Candidate(
        found.start,
        found.end,
        found.named,
        found.unused,
        is_json=False,
        first_number=found.first_number,
        last_number=found.last_number,
    )


def _is_remark(text: str, candidate: _Candidate) -> bool:
    """Whether the value follows the name in a line of a list: 1. red cup ["ceramic"]."""
    line = text[text.rfind("\n", 0, candidate.start) + 1 : candidate.start]
    return bool(re.match(r"\s*(?:\d{1,3}[.)]|[-*•])\s+\S", line)) and not line.rstrip(" *`").endswith((":", "="))


def _unmarked(text: str) -> list[_Candidate]:
    """The whole text, or what it has between fences, as names without any marks."""
    fenced = _FENCE.split(text)
    for part in (fenced[1] if len(fenced) > 1 else "", text):
        if named := whole_list(part):
            return [_Candidate(0, len(text), named, [], is_json=False)]
    return []


def _choose(candidates: Sequence[_Candidate], prompt: str) -> tuple[list[_Candidate], list[tuple[str, str]]]:
    """The candidates that together are the answer, and (text, reason) for what the others name."""
    candidates = [c for c in candidates if c.named or c.unused]
    left: list[tuple[str, str]] = []
    prompt = "".join(prompt.split())
    for reason, is_unfit in (
        ("listed as left out", lambda c: _LEFT_OUT.search(_last_words(c.intro))),
        ("in an example", lambda c: _is_example(c) or _is_in(prompt, c.source)),
    ):
        fit: list[_Candidate] = []
        unfit: list[_Candidate] = []
        for candidate in candidates:
            (unfit if is_unfit(candidate) else fit).append(candidate)
        if fit:
            candidates = fit
            left += [(named.text, reason) for candidate in unfit for named in candidate.named]
    chosen: list[_Candidate] = []
    taken: set[str] = set()
    for candidate in candidates:
        if chosen and not _belong_together(chosen, taken, candidate):
            left += [(named.text, "in an earlier list of the answer") for c in chosen for named in c.named]
            chosen, taken = [], set()
        chosen.append(candidate)
        taken |= candidate.keys
    return chosen, [row for row in left if row[0].casefold() not in taken]


def _last_words(text: str) -> str:
    """The end of the last sentence or line in `text`."""
    text = re.sub(r"\be\.g\.|\bi\.e\.", "for example", _FENCE.sub("", text[-_MAX_INTRO:]), flags=re.IGNORECASE)
    parts = [part for part in re.split(r"[.!?。]\s|\n", text) if part.strip()]
    return parts[-1][-120:] if parts else ""


def _is_in(prompt: str, source: str) -> bool:
    """Whether the prompt, which is without spaces, has the same list."""
    return bool(source) and "".join(source.split()) in prompt


def _belong_together(chosen: Sequence[_Candidate], taken: set[str], later: _Candidate) -> bool:
    """Whether a list goes on from the chosen ones, which name `taken`, as the next group; else it replaces them."""
    last_number = chosen[-1].last_number
    if last_number is not None and later.first_number == last_number + 1:
        return True
    words = _last_words(later.intro)
    if _REVISION.search(later.intro) or (_FINAL.search(words) and not _FINAL.search(_last_words(chosen[0].intro))):
        return False
    prose = _FENCE.sub("", later.intro)
    is_label = len(prose.split()) <= (_MAX_LABEL_WORDS if "\n" in prose or not re.search(r"[.!?]\s", prose) else 2)
    if is_label:
        return True
    return not taken & later.keys and (prose.endswith("\n") or "```" in later.intro)


def _joined(chosen: Sequence[_Candidate], left: Sequence[tuple[str, str]], at_end: bool) -> Reading:
    named = [row for candidate in chosen for row in candidate.named]
    unused = [*(row for candidate in chosen for row in candidate.unused), *left]
    cut_off = not all(candidate.complete for candidate in chosen)
    if at_end and not chosen[-1].is_json:  # the last line may be half a name
        cut_off = True
        unused.append((named.pop().text, "the answer was cut off here"))
    unused += [(row.text, f"more than {MAX_NAMED} names") for row in named[MAX_NAMED:]]
    if not named and cut_off:
        return Reading(unused=tuple(unused), problem="The model had not finished its answer at --max-tokens.")
    return Reading(tuple(named[:MAX_NAMED]), tuple(unused), cut_off=cut_off)


def _draft_in(thinking: str, prompt: str) -> Reading | None:
    """The last complete list in thinking after which no answer came: the server may have taken that for thinking."""
    drafts = [c for c in _candidates(thinking, are_drafts=True) if c.is_json and c.is_list and c.named and c.complete]
    prompt = "".join(prompt.split())
    drafts = [draft for draft in drafts if not _is_in(prompt, draft.source)]
    drafts = [draft for draft in drafts if not _is_example(draft)] or drafts
    most = max((len(draft.named) for draft in drafts), default=0)
    drafts = [draft for draft in drafts if 2 * len(draft.named) > most]
    return _joined(drafts[-1:], [], at_end=False) if drafts else None
