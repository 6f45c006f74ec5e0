"""Batch normalisation over the batches of all processes of a distributed training, on CPUs as well as GPUs.

``torch.nn.SyncBatchNorm`` refuses CPU tensors, and is no ``BatchNorm2d``, as which finished networks are folded.
"""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from irnas_ray.kernels.derivatives import differentiable_once


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation whose statistics in training are those of all processes' batches, which are of one size.

    Outputs, gradients and running statistics are those of ``BatchNorm2d`` on the joint batch. Without processes, and in
    evaluation, it is ``BatchNorm2d``, with the same names in its state.
    """

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        by_batch = self.training or self.running_mean is None
        if not by_batch or not dist.is_initialized():
            return super().forward(input)
        mean, variance, count = _joint_statistics(input)
        if count < 2:
            raise ValueError(f"batch normalisation needs more than one value per channel, got {count}")
        if self.training and self.running_mean is not None:
            self._move_running_statistics(mean, variance * count / (count - 1))
        return _Normalise.apply(input, self.weight, self.bias, mean, variance, count, self.eps)

    @torch.no_grad()
    def _move_running_statistics(self, mean: Float[Tensor, " c"], variance: Float[Tensor, " c"]) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        # no momentum: the mean over all batches
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)


def synchronise(network: nn.Module) -> None:
    """Let every ``BatchNorm2d`` of a network normalise over all processes, in place; weights and names stay.

    Raises ValueError for batch normalisation of another kind, which cannot.
    """
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            # in place of a new module, so that whoever holds the module or its parameters holds the right ones
            module.__class__ = SynchronisedBatchNorm2d
        elif isinstance(module, nn.modules.batchnorm._BatchNorm) and not isinstance(module, SynchronisedBatchNorm2d):
            kind = type(module).__name__
            raise ValueError(f"{kind} cannot normalise over several processes; use BatchNorm2d, or one process")


@torch.no_grad()
def _joint_statistics(batch: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"], int]:
    """Mean, variance and number of the values of each channel in all processes' batches."""
    values = batch if batch.dtype == torch.float64 else batch.float()
    variance, mean = torch.var_mean(values, dim=(0, 2, 3), correction=0)
    own = torch.stack([mean, variance])
    everyone = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, own)
    # gathered, not reduced: all processes add in one order and get the same bits; and no square of a mean cancels
    means, variances = torch.stack(everyone).unbind(dim=1)
    joint = means.mean(dim=0)
    spread = (means - joint).square().mean(dim=0)
    return joint, variances.mean(dim=0) + spread, len(everyone) * batch.numel() // batch.shape[1]


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        batch: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        count: int,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(batch, weight, mean, variance)
        ctx.count, ctx.eps = count, eps
        # normalisation by given statistics is that of evaluation
        return torch.ops.aten.native_batch_norm(batch, weight, bias, mean, variance, False, 0.0, eps)[0]

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        batch, weight, mean, variance = ctx.saved_tensors
        scale = torch.ones_like(mean) if weight is None else weight
        into_batch, into_weight, into_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, batch, scale, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        # beyond evaluation's gradient: mean and variance follow every value of the joint batch
        joint = torch.stack([into_bias, into_weight]).to(mean.dtype)
        dist.all_reduce(joint)
        inverse = (variance + ctx.eps).rsqrt()
        by_mean, by_deviation = joint * (scale * inverse / ctx.count)
        slope = by_deviation * inverse
        shift = by_mean - slope * mean
        through = torch.addcmul(_channels(shift), batch, _channels(slope))
        into_batch = (into_batch - through).to(batch.dtype)
        affine = weight is not None
        return into_batch, into_weight if affine else None, into_bias if affine else None, None, None, None, None


def _channels(values: Float[Tensor, " c"]) -> Float[Tensor, "1 c 1 1"]:
    return values.view(1, -1, 1, 1)
