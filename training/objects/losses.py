"""Losses of the object net. All terms are means over pixels that show the object or an occluder in front of it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sam3d_gs.embedded.shape.object_net import Answer
from training.objects.samples import Batch

HIDDEN_WEIGHT = 0.3  # of pixels behind an occluder: nobody can know them well
THICKEST = 4.0  # crop half-sides; rays along a long thing say little
STEEPEST = 6.0  # slope; normals of jumps mean nothing
GRADIENT_SCALES = (1, 2, 4)  # pixels

# Those of version 1 as there; the further ones so that each starts at about a tenth of the whole.
WEIGHTS = {
    "front": 1.0,
    "thickness": 1.0,
    "back": 0.7,
    "log_thickness": 0.08,
    "gradients": 0.7,
    "normals": 0.12,
    "colour": 1.0,
    "visible": 0.15,
    "inner": 0.5,
    "hollow": 0.15,
    "whole": 0.15,
    "scale": 0.05,
    "up": 0.05,
}


def losses(answer: Answer, batch: Batch) -> dict[str, Tensor]:
    """Name -> scalar, and "total", their weighted sum, without terms of heads that the net does not have."""
    usable = batch.usable[:, None, None, None]
    weight = (batch.visible + HIDDEN_WEIGHT * (batch.amodal - batch.visible)) * usable
    front, back = answer.front, answer.front - answer.thickness
    true_front = batch.layers[:, :1]
    true_thickness = (true_front - batch.layers[:, 3:]).clamp(0, THICKEST)
    true_back = true_front - true_thickness
    front_error, back_error = front - true_front, back - true_back
    terms = {
        "front": _mean(front_error.abs(), weight),
        "thickness": _mean((answer.thickness - true_thickness).abs(), weight),
        "back": _mean(back_error.abs(), weight),
        "log_thickness": _mean((torch.log(answer.thickness + 0.05) - torch.log(true_thickness + 0.05)).abs(), weight),
        "gradients": _gradient_error(front_error, weight) + _gradient_error(back_error, weight),
        "normals": _normal_error(front, true_front, weight) + _normal_error(back, true_back, weight),
        "colour": _mean((answer.back_rgb - batch.back_rgb).abs().mean(1, keepdim=True), weight),
        "visible": _logit_error(answer.visible, batch.visible, usable),
    }
    if answer.hollow.shape[1]:
        hollow = batch.hollow * weight
        first_exit = front - answer.thickness * answer.shares[:, :1]
        second_entry = back + answer.thickness * answer.shares[:, 2:]
        true_exit, true_entry = (batch.layers[:, i : i + 1].maximum(true_back) for i in (1, 2))
        inner_error = (first_exit - true_exit).abs() + (second_entry - true_entry).abs()
        terms["inner"] = _mean(inner_error, hollow) * hollow.sum() / weight.sum().clamp(min=1)
        terms["hollow"] = _mean(
            F.binary_cross_entropy_with_logits(answer.hollow, batch.hollow, reduction="none"), weight
        )
        terms["whole"] = _logit_error(answer.whole, batch.amodal, usable)
    if answer.log_scale.shape[1]:
        errors = torch.cat([front_error, back_error], dim=1).detach().abs()  # scales learn from errors, not the reverse
        terms["scale"] = _mean(laplace(errors, answer.log_scale).mean(1, keepdim=True), weight)
    if answer.up.shape[1]:
        terms["up"] = (fisher(answer.up, batch.up) * batch.usable).sum() / batch.usable.sum().clamp(min=1)
    terms["total"] = torch.stack([WEIGHTS[name] * value for name, value in terms.items()]).sum()
    return terms


def laplace(error: Tensor, log_scale: Tensor) -> Tensor:
    """Negative log-likelihood of an absolute error under a Laplace distribution, minus log 2."""
    return error * torch.exp(-log_scale) + log_scale


def fisher(vector: Tensor, direction: Tensor) -> Tensor:
    """(B,) negative log-likelihood of unit vectors (B, 3) under a von Mises-Fisher distribution, up to a constant.

    `vector` (B, 3) points along the mean direction; its length k is the concentration. The density on the sphere is
    k / (4 pi sinh k) exp(vector . direction). The best k grows as the cosine of the error nears 1.
    """
    k = vector.norm(dim=-1).clamp(min=1e-3)
    log_sinh = k + torch.log1p(-torch.exp(-2 * k)) - 0.6931472
    return log_sinh - torch.log(k) - (vector * direction).sum(-1)


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum().clamp(min=1)


def _logit_error(logit: Tensor, truth: Tensor, usable: Tensor) -> Tensor:
    return (F.binary_cross_entropy_with_logits(logit, truth, reduction="none") * usable).mean()


def _gradient_error(error: Tensor, weight: Tensor) -> Tensor:
    """Mean gradient of an error map, at several scales; penalises misplaced edges and waves."""
    total = error.new_zeros(())
    inside = (weight > 0).to(error.dtype)
    for scale in GRADIENT_SCALES:
        for ahead, here in (
            ((..., slice(1, None)), (..., slice(-1))),
            ((..., slice(1, None), slice(None)), (..., slice(-1), slice(None))),
        ):
            both = weight[ahead] * inside[here]
            total = total + _mean((error[ahead] - error[here]).abs(), both)
        if scale != GRADIENT_SCALES[-1]:
            share = F.avg_pool2d(inside, 2)
            error = F.avg_pool2d(error * inside, 2) / (share + 1e-4)
            inside = (share > 0.9).to(error.dtype)
            weight = F.avg_pool2d(weight, 2) * inside
    return total


def _normal_error(depth: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """1 - cosine between the normals of two height fields."""
    pixel = 2 / depth.shape[-1]

    def slopes(z: Tensor) -> tuple[Tensor, Tensor]:
        corner = z[..., :-1, :-1]
        return (z[..., :-1, 1:] - corner) / pixel, (z[..., 1:, :-1] - corner) / pixel

    (ax, ay), (bx, by) = slopes(depth), slopes(truth)
    sound = (weight[..., :-1, 1:] > 0) & (weight[..., 1:, :-1] > 0) & (bx.abs() < STEEPEST) & (by.abs() < STEEPEST)
    cosine = (1 + ax * bx + ay * by) / ((1 + ax * ax + ay * ay).sqrt() * (1 + bx * bx + by * by).sqrt())
    return _mean(1 - cosine, weight[..., :-1, :-1] * sound)
