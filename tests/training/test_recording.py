"""Work recorded on a card does what it does when it is launched piece by piece."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from training.recording import Recording


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA card")
def test_a_replay_gives_the_losses_and_gradients_of_its_batch() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 3, 1)).cuda()

    def work(batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        net.zero_grad(set_to_none=True)
        noise = torch.rand(4, 3, 8, 8, device="cuda")
        loss = (net(batch[0]) - batch[1] + 0.1 * noise).square().mean()
        loss.backward()
        return {"total": loss.detach()}

    def batch() -> tuple[Tensor, Tensor]:
        return torch.randn(4, 3, 8, 8, device="cuda"), torch.randn(4, 3, 8, 8, device="cuda")

    recording = Recording(work, batch())
    for _ in range(2):
        given = batch()
        torch.cuda.manual_seed(5)
        said = float(recording(given)["total"])
        gradients = [p.grad.clone() for p in net.parameters() if p.grad is not None]
        kept = [p.grad for p in net.parameters()]
        torch.cuda.manual_seed(5)
        assert said == pytest.approx(float(work(given)["total"]), rel=1e-4)
        for p, gradient in zip(net.parameters(), gradients, strict=True):
            assert p.grad is not None
            torch.testing.assert_close(p.grad, gradient, rtol=1e-3, atol=1e-5)
        for p, grad in zip(net.parameters(), kept, strict=True):
            p.grad = grad  # those that the recording writes
