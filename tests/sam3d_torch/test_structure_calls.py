"""Recorded or not, the calls of the structure flow are the flow's."""

import pytest

pytest.importorskip("torch")

import torch

from sam3d_gs.sam3d_torch import structure_calls
from sam3d_gs.sam3d_torch.layers import Groups
from sam3d_gs.sam3d_torch.structure_calls import StructureCalls
from tests.sam3d_torch.flows import latents, structure_flow, tokens

ONE, BOTH = Groups(True, False), Groups(True, True)


def compare(device, rtol):
    """Objects one after another, alone and in pairs, with and without guidance, at changing times."""
    flow = structure_flow().to(device)
    calls = StructureCalls(flow)
    modulations = flow.modulations(*(torch.tensor(v, device=device) for v in ([10.0, 400.0], [0.0, 0.0])))
    for seed, batch in ((0, 1), (1, 1), (2, 2), (3, 1)):
        context = tokens(batch, seed=seed).to(device)
        calls.look_at(context)
        for step, groups in ((0, BOTH), (1, ONE), (0, ONE), (1, BOTH)):
            state = {name: value.to(device) for name, value in latents(batch, seed=10 * seed + step).items()}
            ours = calls.velocity(state, modulations[step], groups)
            plain = flow.velocity(state, modulations[step], flow.context(context), flow.empty_context(), groups)
            for name, value in plain.items():
                torch.testing.assert_close(ours[name], value, rtol=rtol, atol=rtol)
    return calls


@pytest.mark.slow
def test_calls_are_the_flow_s():
    assert not compare("cpu", 0)._recorded


def test_the_context_keeps_its_place():
    flow = structure_flow()
    held = flow.context(tokens(2))
    places = [kv.data_ptr() for kv in held.shape_kv]
    flow.renew_context(held, tokens(2, seed=1))
    for ours, theirs in zip(held.shape_kv, flow.context(tokens(2, seed=1)).shape_kv, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert [kv.data_ptr() for kv in held.shape_kv] == places


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_recorded_calls_on_the_gpu(monkeypatch):
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    assert set(compare("cuda", 1e-5)._recorded) == {ONE, BOTH}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_without_graphs_it_goes_on(monkeypatch, caplog):
    def refuse(*arguments):
        raise RuntimeError("this driver records nothing\nat all")

    monkeypatch.setattr(structure_calls, "_Recorded", refuse)
    assert not compare("cuda", 0)._recorded
    assert "(this driver records nothing)" in caplog.text
