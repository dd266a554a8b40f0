"""Whatever form a model's list has, all of it is read; what is no list of objects gives a problem, never phrases."""

from __future__ import annotations

import json
import re
import time

import pytest
from hypothesis import example, given, seed, settings
from hypothesis import strategies as st

from sam3d_gs.vlm.answer import MAX_NAMED, Reading, read_reply
from sam3d_gs.vlm.client import Reply
from sam3d_gs.vlm.names import Named

ASKED = '{"objects": [{"phrase": "red cup", "count": 2, "box": [10, 20, 300, 400]}, {"phrase": "spoon"}]}'
PROMPT = 'Answer in this form: {"objects": [{"phrase": "green mug", "count": 2}]}'
PLAN = "Okay, the user wants a list of objects.\n1. Look at the picture as a whole.\n2. Name what can be lifted.\n"


def _read(content: str, finish: str = "stop", reasoning: str = "", tool_arguments: str = "") -> Reading:
    return read_reply(Reply(content, reasoning, finish, None, tool_arguments), PROMPT)


def _texts(reading: Reading) -> list[str] | None:
    """The names; None when the answer was not understood."""
    assert not (reading.problem and reading.named)
    return None if reading.problem else [row.text for row in reading.named]


# fmt: off
JSON_FORMS = [
    ASKED,
    "\n\n" + ASKED + "\n",
    "I see a cup [and more].\n```json\n" + ASKED + "\n```\nDone.",
    '["red cup", "spoon"]', "['red cup', 'spoon']", '("red cup", "spoon")', '{"red cup", "spoon"}', "[red cup, spoon]",
    '["red cup" "spoon"]', '[["red cup"], ["spoon"]]', '[["red cup", 2], ["spoon", 1]]',
    '["red cup", "spoon"', '{"objects": ["red cup", "spoon"}',
    '[ // the list\n "red cup", # one\n /* two */ "spoon",\n]',
    '{"objects": [ // big ones\n {"phrase": "red cup", "count": 2 /* sure */}, # hm\n {"phrase": "spoon",},],}',
    "{'objects': [{'phrase': 'red cup', 'count': None}, {'phrase': 'spoon', 'whole': True}]}",
    '{objects: [{phrase: "red cup"}, {phrase: "spoon"}]}',
    '{"phrases": ["red cup", "spoon"]}', '{"objects": "red cup, spoon"}', '{"objects": {"red cup": 2, "spoon": 1}}',
    '{"objects": {"1": "red cup", "2": "spoon"}}', '{"1": {"phrase": "red cup"}, "2": {"phrase": "spoon"}}',
    '[{"label": "red cup", "bbox_2d": [1, 2, 3, 4]}, {"name": "spoon"}]',
    '{"bboxes": [[1, 2, 3, 4], [1, 2, 3, 4]], "labels": ["red cup", "spoon"]}',
    '{"items": [{"id": 1, "thing": "red cup"}, {"id": 2, "thing": "spoon"}]}',
    '"{\\"objects\\": [\\"red cup\\", \\"spoon\\"]}"', '{\\"objects\\": [\\"red cup\\", \\"spoon\\"]}',
    '{"answer": "[\\"red cup\\", \\"spoon\\"]"}',
    "[&quot;red cup&quot;, &quot;spoon&quot;]", '［"red cup"，"spoon"］', "{“objects”: [“red cup”, “spoon”]}",
    '{"objects": [{"name": "red cup", "attributes": ["red"]}, {"name": "spoon", "parts": ["handle"]}],'
    ' "image": {"width": 640, "height": 480}}',
]
CALLS = [
    '[TOOL_CALLS][{"name": "f", "arguments": {"objects": ["red cup", "spoon"]}}]',
    'objects = [\n    "red cup",\n    "spoon",\n]\nprint(objects)', "objects: [red cup, spoon]",
    '<tool_call>{"name": "list_objects", "arguments": {"objects": ["red cup", "spoon"]}}</tool_call>',
    '{"name": "f", "parameters": {"objects": [{"phrase": "red cup"}, {"phrase": "spoon"}]}}',
    '{"function": {"name": "f", "arguments": "{\\"objects\\": [\\"red cup\\", \\"spoon\\"]}"}}',
    '<tool_call>{"name": "add", "arguments": {"phrase": "red cup"}}</tool_call>\n'
    '<tool_call>{"name": "add", "arguments": {"phrase": "spoon"}}</tool_call>',
    '<function=list_objects><parameter=objects>["red cup", "spoon"]</parameter></function>',
    'list_objects(objects=["red cup", "spoon"])', 'list_objects("red cup", "spoon")',
    'add(phrase="red cup")\nadd(phrase="spoon")',
]
SEVERAL = [
    '{"phrase": "red cup"}\n{"phrase": "spoon"}', '{"name": "red cup"},\n{"name": "spoon"}', '"red cup"\n"spoon"',
    '1. {"phrase": "red cup"}\n2. {"phrase": "spoon"}',
    '{"foreground": ["red cup"], "background": ["spoon"]}', '{"objects": ["red cup"], "people": ["spoon"]}',
    '{"objects": {"foreground": ["red cup"], "background": ["spoon"]}}',
    '{"groups": [{"room": "kitchen", "objects": ["red cup"]}, {"room": "hall", "objects": ["spoon"]}]}',
    '{"objects": ["red cup"], "objects": ["spoon"]}', '{"phrase": "red cup", "phrase": "spoon"}',
    'Foreground:\n```json\n["red cup"]\n```\nBackground:\n```json\n["spoon"]\n```',
    'Foreground: ["red cup"], background: ["spoon"]',
    "Foreground objects:\n1. red cup\n\nBackground objects:\n1. spoon",
    "### Foreground\n- red cup\n### Behind\n- spoon",
    "Foreground objects: 1. red cup\nBackground objects: 1. spoon", "Foreground: red cup\nBackground: spoon",
    "foreground:\n  - red cup\nbackground:\n  - spoon", "1. red cup\nIt is on the table.\n2. spoon\nIt is silver.",
]
LINES = [
    "1. red cup\n2. spoon", "1. red cup 2. spoon", "1、red cup\n2、spoon", "(1) red cup\n(2) spoon",
    "a) red cup\nb) spoon",
    "Here they are:\n\n1) **red cup**: on the table\n2) spoon (silver)", "* red cup - a mug\n* spoon",
    "Object 1: red cup\nObject 2: spoon", "- [x] red cup\n- [ ] spoon", "1. red cup [10, 20, 30, 40]\n2. spoon",
    "objects:\n  - phrase: red cup\n    count: 2\n  - phrase: spoon", "- count: 2\n  phrase: red cup\n- phrase: spoon",
    "```yaml\nobjects:\n  - name: red cup\n    box: [1, 2, 3, 4]\n  - name: spoon\n```",
    "1. **Kitchen:**\n   - red cup\n   - spoon", "1. red cup\n   - Color: red\n2. spoon\n   - Color: silver",
    "| object | count |\n|---|---|\n| red cup | 2 |\n| spoon | 1 |",
    "| # | What |\n|---|---|\n| 1 | red cup |\n| 2 | spoon |",
    "### 1. red cup\n- **Position**: left\n### 2. spoon\n- **Position**: right",
    "phrase,count\nred cup,2\nspoon,1", "<ul><li>red cup</li><li>spoon</li></ul>",
    "<ref>red cup</ref><box>(1,2),(3,4)</box><ref>spoon</ref><box>(1,2),(3,4)</box>",
    "red cup, spoon", "Objects: red cup and spoon", "red cup\nspoon", "```\nred cup\nspoon\n```",
]
AROUND = [
    "<think>Is there [a cup]? 1. cup 2. fork</think>\n" + ASKED, "thinking without its start </think>" + ASKED,
    "<|begin_of_box|>" + ASKED + "<|end_of_box|>", "◁think▷[\"cat\"]◁/think▷" + ASKED,
    "<|channel|>analysis<|message|>[\"cat\"]<|end|><|start|>assistant<|channel|>final<|message|>" + ASKED,
    '<analysis>["table"]</analysis><prompt_list>["red cup", "spoon"]</prompt_list>',
    "<prompt_list>\n- red cup\n- spoon\n</prompt_list>", '<answer>["red cup", "spoon"]</answer>',
    PLAN + "\n" + ASKED, "Plan:\n1. Look at the whole picture\n2. Name the things.\n\nObjects:\n1. red cup\n2. spoon",
    "Sure! Here is the list in JSON format:\n" + ASKED + "\nI left out the [wall] and [floor](x).",
    "As in [1]: " + ASKED,
]
INSTEAD = [  # an example, a draft or what was left out, beside the list
    'You want such as ["cat", "dog"]. The answer: ["red cup", "spoon"]', 'For example: ["cat"]\n\n["red cup", "spoon"]',
    PROMPT + "\nSo: " + ASKED, 'Draft: ["cup"]. Wait, better: ["red cup", "spoon"]',
    "At first I thought of these, since all of them are there and stand near to one another:\n"
    '["red cup", "spoon", "fork"]\nThe final list is:\n["red cup", "spoon"]',
    '{"thinking": "I see", "objects": ["red cup", "spoon"], "excluded": ["wall"]}',
    "For instance, I could write ['a cat'] but the photo shows:\n- red cup\n- spoon",
    'If there were pets I would write ["cat", "dog"]. Here it shows: ["red cup", "spoon"]',
    "Objects:\n- red cup\n- spoon\n\nNot included:\n- wall\n- floor",
]
# fmt: on


@pytest.mark.parametrize("content", [*JSON_FORMS, *CALLS, *SEVERAL, *LINES, *AROUND])
def test_every_form_of_the_same_list(content: str) -> None:
    assert _texts(_read(content)) == ["red cup", "spoon"]


@pytest.mark.parametrize("content", INSTEAD)
def test_examples_and_drafts_are_not_taken_and_named(content: str) -> None:
    reading = _read(content)
    assert _texts(reading) == ["red cup", "spoon"]
    assert reading.unused
    assert not {text for text, _ in reading.unused} & {"red cup", "spoon"}


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ('[{"phrase": "红色杯子"}, {"phrase": "勺子"}]', ["红色杯子", "勺子"]),
        ("1. 红色杯子：在桌上\n2. 勺子", ["红色杯子", "勺子"]),
        ("красная чашка, ложка", ["красная чашка", "ложка"]),
        ('{"物体": [{"名称": "红色杯子", "count": 1}]}', ["红色杯子"]),
        (
            "['child's toy', 'rock 'n' roll guitar', \"12\" ruler\"]",
            ["child's toy", "rock 'n' roll guitar", '12" ruler'],
        ),
        ('["caf\\u00e9 table", "back\\\\slash"]', ["café table", "back\\slash"]),
    ],
)
def test_other_languages_and_quotes(content: str, texts: list[str]) -> None:
    assert _texts(_read(content)) == texts


def test_half_a_surrogate_pair_can_be_written_to_a_file() -> None:
    for content in ('["red \\ud83d cup", "\\ude00"]', '"[\\"red cup \\ud83d\\"]"', '["red \ud83d cup"]'):
        reading = _read(content)
        assert len(reading.named) == 1
        for text in (reading.named[0].text, *(text for text, _ in reading.unused)):
            text.encode()


def test_counts_and_boxes() -> None:
    assert _read(ASKED).named[0] == Named("red cup", 2, (10.0, 20.0, 300.0, 400.0))
    assert _read('["2 x red cup", "spoon (3)", "fork x2"]').named == (
        Named("red cup", 2),
        Named("spoon", 3),
        Named("fork", 2),
    )
    assert _read("1. red cup (2)\n2. spoon: 3").named == (Named("red cup", 2), Named("spoon", 3))
    assert _read("- phrase: red cup\n  count: 2\n- phrase: spoon").named[0].count == 2
    assert _read("| name | count |\n|---|---|\n| red cup | 2 |").named[0].count == 2


@pytest.mark.parametrize(
    "box",
    ["[1, 2, 3]", "[1, 2, 3, 4000]", "[5, 2, 3, 4]", '["a", 1, 2, 3]', "null", "[NaN, 1, 2, 3]", "[1, 2, 3, true]"],
)
def test_a_box_that_is_none_is_left_out(box: str) -> None:
    assert _read(f'[{{"phrase": "cup", "box": {box}, "count": -1}}]').named == (Named("cup"),)


def test_boxes_of_one_answer_have_one_unit() -> None:
    rows = [{"label": "cup", "bbox_2d": [10, 20, 300, 400]}, {"label": "desk", "bbox_2d": [0, 0, 1900, 1000]}]
    assert [row.box_permille for row in _read(json.dumps(rows)).named] == [None, None], "pixels"
    rows = [{"label": "cup", "bbox_2d": [0.1, 0.25, 0.5, 1.0]}]
    assert _read(json.dumps(rows)).named[0].box_permille == (100, 250, 500, 1000), "fractions"


@pytest.mark.parametrize("finish", ["stop", "length"])
@pytest.mark.parametrize(
    "content",
    [
        ASKED[: ASKED.index('"spoon"') + 4],
        ASKED[: ASKED.index('"spoon"') + 7],
        '```json\n["red cup", "spo',
        "['red cup', 'spo",
        '<prompt_list>["red cup",',
        "Here you go:\n" + ASKED[: ASKED.index('"spoon"')],
    ],
)
def test_of_a_list_cut_off_the_whole_items_are_kept(content: str, finish: str) -> None:
    reading = _read(content, finish)
    assert _texts(reading) == ["red cup"]
    assert reading.cut_off


def test_a_half_line_is_no_name() -> None:
    reading = _read("<think>Hm.</think>1. red cup\n2. spoon\n3. woo", "length")
    assert _texts(reading) == ["red cup", "spoon"]
    assert reading.cut_off
    assert reading.unused == (("woo", "the answer was cut off here"),)


@pytest.mark.parametrize(
    "content",
    [
        PLAN + "The red ball is on the left, and",
        'Okay, so the format: {"objects": [{"phrase": "red cup"}]}. Let me look again at the',
        "Thinking Process:\n\n1.  **Analyze it:**\n    *   **Task:** List the objects.\n    *   **Output:** JSON",
        "So I should list a red cup, a spoon,",
        'Let me see. The objects: ["red cup", "spoon", "fork"]. Next I check each. Is the fork there? Hmm, the',
        "- red cup: visible\n- spoon: maybe",
        "<think>1. red cup\n2. spoon",
        "",
    ],
)
def test_thinking_that_was_cut_off_is_no_answer(content: str) -> None:
    for reading in (_read(content, "length"), _read("", "length", reasoning=content)):
        assert _texts(reading) is None
        assert "had not finished its answer" in reading.problem


def test_an_answer_that_looped_on_newlines_is_whole() -> None:
    reading = _read(ASKED + "\n" * 50, "length")
    assert _texts(reading) == ["red cup", "spoon"]
    assert not reading.cut_off


@pytest.mark.parametrize(
    "content",
    [
        "",
        "\n",
        "I cannot see any objects, sorry.",
        "I'm sorry, I can't help with that.",
        "I'm sorry, but I can't see an image. You can:\n1. Upload it again\n2. Describe it",
        PLAN,
        "<think>1. red cup\n2. spoon",
        "{}",
        "[[[[",
        "null",
        "Done.",
        "No objects found.",
        "The image shows a cup, a spoon, and a plate.",
        "It is a nice day [1] in the park (2).",
        '{"name": "list_objects"}',
        '{"error": "cannot process"}',
        '{"description": "A desk with a cup"}',
    ],
)
def test_what_is_no_list_is_not_understood(content: str) -> None:
    assert _texts(_read(content)) is None


@pytest.mark.parametrize("content", ["[]", '{"objects": []}', '```json\n{"objects": []}\n```'])
def test_an_empty_list_is_an_answer(content: str) -> None:
    assert _texts(_read(content)) == []


@pytest.mark.parametrize(
    ("reasoning", "texts"),
    [
        (ASKED, ["red cup", "spoon"]),
        ('I see. First {"objects": ["cat"]}. Then {"objects": ["red cup", "spoon"]}', ["red cup", "spoon"]),
        ('One: ["red cup", "spoon"]. I removed ["wall"], so {"objects": ["red cup", "sp', ["red cup", "spoon"]),
        ('{"objects": ["cup"]}\n{"objects": ["red cup", "spoon"]}', ["red cup", "spoon"]),
        (PROMPT + " I see nothing of that.", None),
        ("1. red cup\n2. spoon", None),
    ],
)
def test_an_answer_among_the_thinking(reasoning: str, texts: list[str] | None) -> None:
    """As servers give it whose reasoning parser does not fit the model."""
    assert _texts(_read("", reasoning=reasoning)) == texts
    assert _texts(_read(f"<think>{reasoning}")) == texts
    assert _texts(_read(f"<think>{reasoning}</think>\n")) == texts


def test_arguments_of_a_tool_call() -> None:
    for arguments in ('{"objects": ["red cup", "spoon"]}', '{"phrase": "red cup"}\n{"phrase": "spoon"}'):
        assert _texts(_read("I will list them.", "tool_calls", tool_arguments=arguments)) == ["red cup", "spoon"]


# ---- any list, any text --------------------------------------------------------------------------------------------

COLOURS_AND_THINGS = "red blue wooden small cup mug chair lamp plant toy apple vase book clock кружка 椅子"
WORDS = st.sampled_from(re.findall(r"\w+", COLOURS_AND_THINGS))
PHRASES = st.lists(st.lists(WORDS, min_size=1, max_size=3).map(" ".join), min_size=2, max_size=8, unique=True)
# fmt: off
STYLES = {
    "object": lambda p: json.dumps({"objects": [{"phrase": t} for t in p]}),
    "rows": lambda p: json.dumps([{"label": t, "bbox_2d": [1, 2, 30, 40]} for t in p], indent=2),
    "strings": lambda p: json.dumps(p, ensure_ascii=False),
    "python": lambda p: repr([{"name": t, "count": None} for t in p]),
    "lines": lambda p: "\n".join(json.dumps({"phrase": t}) for t in p),
    "remarks": lambda p: "[\n" + "".join(f'  "{t}", // number {i}\n' for i, t in enumerate(p)) + "]",
    "groups": lambda p: json.dumps({"near": p[:1], "far": p[1:]}),
    "nested": lambda p: json.dumps([p[:1], p[1:]]),
    "call": lambda p: "list_objects(objects=" + json.dumps(p) + ")",
    "tool": lambda p: json.dumps({"name": "f", "arguments": {"objects": p}}),
    "fences": lambda p: f"Near:\n```json\n{json.dumps(p[:1])}\n```\nFar:\n```json\n{json.dumps(p[1:])}\n```",
    "numbered": lambda p: "\n".join(f"{i}. {t}" for i, t in enumerate(p, 1)),
    "bold": lambda p: "\n".join(f"- **{t}**: there" for t in p),
    "yaml": lambda p: "objects:\n" + "".join(f"  - phrase: {t}\n    count: 2\n" for t in p),
    "table": lambda p: "| object | count |\n|---|---|\n" + "".join(f"| {t} | 1 |\n" for t in p),
    "commas": lambda p: ", ".join(p),
}
WRAPPINGS = {
    "bare": lambda text: text,
    "blank": lambda text: f"\n\n  \n{text}\n\n",
    "thinking": lambda text: f'<think>1. look\n["cat"]\n{{"objects": ["dog"]}}</think>\n{text}',
    "closed": lambda text: f'I see ["cat"].</think>\n\n{text}',
    "box": lambda text: f"<|begin_of_box|>{text}<|end_of_box|>",
    "marked": lambda text: f"Fine.\n<answer>\n{text}\n</answer>",
}
# fmt: on


@seed(1)
@settings(deadline=None, max_examples=300)
@given(PHRASES, st.sampled_from(sorted(STYLES)), st.sampled_from(sorted(WRAPPINGS)))
def test_any_list_in_any_style_comes_back_whole(texts: list[str], style: str, wrapping: str) -> None:
    content = WRAPPINGS[wrapping](STYLES[style](texts))
    assert _texts(_read(content)) == texts


@seed(1)
@settings(deadline=None, max_examples=100)
@given(PHRASES, st.sampled_from(["object", "rows", "strings", "python", "lines"]), st.data())
def test_a_list_cut_anywhere_gives_its_first_names(texts: list[str], style: str, data: st.DataObject) -> None:
    whole = STYLES[style](texts)
    reading = _read(whole[: data.draw(st.integers(0, len(whole)))], "length")
    found = _texts(reading) or []
    assert found == texts[: len(found)]


@seed(1)
@settings(deadline=None, max_examples=300)
@given(st.text(alphabet=st.sampled_from("[]{}()\",:'`<>/\\|=#*think 12.-\n😀é“】"), max_size=200), st.booleans())
@example('{"objects": [{"phrase": {"a": 1}}]}', False)
@example('{"objects": [' * 60, False)
def test_any_text_gives_names_or_a_problem(content: str, cut_off: bool) -> None:
    reading = _read(content, "length" if cut_off else "stop", reasoning=content)
    assert all(any(map(str.isalpha, row.text)) for row in reading.named)


_SIZE = 1_000_000
HOSTILE = [
    "[",
    '{"a":',
    '["a",',
    "'",
    '["a" x',
    '"[\\"',
    "1. ",
    "1. a\n",
    "<think>",
    "<answer>",
    "[/*",
    "a(",
    " ",
    "|a",
    "-",
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece", [*HOSTILE, '{"phrase":"cup"} and some text. ', "[\"['", "<ref>", "a", "```", "&quot;"]
)
def test_absurd_answers_are_read_quickly(piece: str) -> None:
    started_s = time.process_time()
    _read(piece * (_SIZE // len(piece)))
    _read("", "length", reasoning=piece * (_SIZE // len(piece)))
    assert time.process_time() - started_s < 10


def test_there_is_an_end_to_names() -> None:
    reading = _read(json.dumps([f"thing {chr(97 + i % 26)} {i}" for i in range(MAX_NAMED + 5)]))
    assert len(reading.named) == MAX_NAMED
    assert len(reading.unused) == 5
