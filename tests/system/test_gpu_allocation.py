"""Which cards the stages take when all work at once."""

from __future__ import annotations

import math

import pytest

from sam3d_gs.options import MaskOptions, ObjectOptions, PhraseOptions, SceneOptions
from sam3d_gs.system.gpu_allocation import Wish, for_server, needed_gib, others_gib, place, wish_of
from sam3d_gs.system.nvidia import Card

WISHES = {"phrases": Wish(21.3, cards=None), "masks": Wish(7.5), "objects": Wish(8.0), "scene": Wish(0.0)}


def cards(*free_gib: float) -> list[Card]:
    return [
        Card(str(index), "card", "580", round(gib * 1024), round(gib * 1024), f"GPU-{index}")
        for index, gib in enumerate(free_gib)
    ]


@pytest.mark.parametrize(
    ("free_gib", "expected"),
    [
        ((), {}),  # all on the CPU
        ((23.5,), None),  # one card of 24 GB runs them one after another
        ((139,), {"phrases": ("0",), "objects": ("0",), "masks": ("0",)}),
        ((23.9, 23.9), {"phrases": ("0",), "objects": ("1",), "masks": ("1",)}),
        ((139, 139), {"phrases": ("0",), "objects": ("1",), "masks": ("1",)}),
        ((40, 139, 40), {"phrases": ("1",), "objects": ("0",), "masks": ("2",)}),
        ((15, 15, 15, 15), {"phrases": ("0", "1"), "objects": ("2",), "masks": ("3",)}),
        ((15, 15), None),
    ],
)
def test_place(free_gib: tuple[float, ...], expected: dict[str, tuple[str, ...]] | None) -> None:
    assert place(WISHES, cards(*free_gib)) == expected


def test_named_cards_and_their_number_are_kept() -> None:
    named = {**WISHES, "phrases": Wish(21.3, on=("1",), cards=None)}
    assert place(named, cards(139, 139)) == {"phrases": ("1",), "objects": ("0",), "masks": ("0",)}
    assert place({"phrases": Wish(21.3, cards=2)}, cards(139, 139)) == {"phrases": ("0", "1")}
    assert place({"phrases": Wish(math.inf, cards=None)}, cards(139)) is None


def test_a_server_leaves_room_for_the_stages_on_its_card() -> None:
    options = PhraseOptions("vllm")
    shared = place(WISHES, cards(139))
    assert shared is not None
    assert others_gib("phrases", shared, WISHES) == pytest.approx(15.5)
    assert for_server(options, shared, WISHES).leave_free_gib == pytest.approx(15.5)
    apart = place(WISHES, cards(139, 139))
    assert apart is not None
    told = for_server(options, apart, WISHES)
    assert (told.gpus, told.tensor_parallel, told.leave_free_gib) == ("0", 1, 0)
    assert for_server(options, {}, WISHES) == options


def test_wishes_follow_the_options() -> None:
    assert wish_of(PhraseOptions("vllm", gpus="2, 3", tensor_parallel=2)) == Wish(needed_gib("vllm"), ("2", "3"), 2)
    assert wish_of(PhraseOptions("vllm", model="somebody/model")).gib == math.inf
    assert wish_of(MaskOptions("sam3")).gib == 7.5
    assert wish_of(MaskOptions("sam3", device="cpu")).gib == 0
    assert wish_of(ObjectOptions("native", vram_gib=5)).gib == 5
    for options in (PhraseOptions("openai"), MaskOptions("embedded"), ObjectOptions("embedded"), SceneOptions()):
        assert wish_of(options).gib == 0
