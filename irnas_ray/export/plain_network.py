"""A network in operators that every exporter knows: what is differentiated by hand is written out, sizes stay free."""

import copy

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from irnas_ray.networks.derived import DerivedNetwork
from irnas_ray.networks.folding import FoldedDeformable
from irnas_ray.networks.inference import fast
from irnas_ray.networks.operators import DeformableConvolution, Operator, SeparableConvolution

TAPS = 9


def plain(network: nn.Module) -> nn.Module:
    """A folded copy of a network in plain operators, which restores the same; see ``least_side`` for what it takes."""
    own = copy.deepcopy(fast(network)).cpu().to(memory_format=torch.contiguous_format).eval().requires_grad_(False)
    for parent in list(own.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, SeparableConvolution):
                setattr(parent, name, PlainSeparable(child))
            elif isinstance(child, DeformableConvolution):
                setattr(parent, name, PlainDeformable(child.predictor, child.convolution.weight, None))
            elif isinstance(child, FoldedDeformable):
                setattr(parent, name, PlainDeformable(child.predictor, child.weight, child.bias))
        if isinstance(parent, nn.Sequential):
            _fold_norms(parent)
    step = _step(network)
    return AnySize(own, step) if step > 1 else own


def least_side(network: nn.Module) -> int:
    """The smallest height and width, in pixels, that the plain copy of a network takes."""
    return _step(network) + 1


def _step(network: nn.Module) -> int:
    return network.macro.step() if isinstance(network, DerivedNetwork) else 1


def _fold_norms(sequence: nn.Sequential) -> None:
    """Batch normalisations that follow a convolution become part of it."""
    for place, (module, norm) in enumerate(zip(sequence, list(sequence)[1:], strict=False)):
        if isinstance(module, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            sequence[place], sequence[place + 1] = fuse_conv_bn_eval(module, norm), nn.Identity()


class AnySize(nn.Module):
    """A network that works in steps of pixels, for images of other sizes: they are mirrored first and cut afterwards.

    As ``networks.resolution`` does, but without asking whether the size fits, which would settle it for good.
    """

    def __init__(self, network: nn.Module, step: int) -> None:
        super().__init__()
        self.network, self.step = network, step

    def forward(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The restored image of a degraded one."""
        larger = image
        for axis in (2, 3):
            size = image.shape[axis]
            index = torch.arange((size + self.step - 1) // self.step * self.step, device=image.device)
            larger = larger.index_select(axis, torch.minimum(index, 2 * size - 2 - index))
        restored = self.network(larger)
        for axis in (2, 3):
            restored = restored.index_select(axis, torch.arange(image.shape[axis], device=image.device))
        return restored


class PlainSeparable(nn.Module):
    """``SeparableConvolution`` of one edge as the convolutions that it consists of."""

    normalised = Operator.normalised

    def __init__(self, operator: SeparableConvolution) -> None:
        super().__init__()
        self.pairs = nn.Sequential(operator.depthwise, operator.pointwise, *operator.repeats)

    def forward(self, *features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The output, from the activated source, which is the last feature."""
        return self.pairs(features[-1])


class PlainDeformable(nn.Module):
    """A deformable convolution of one edge by nine samplings of the image, each followed by a 1x1 convolution."""

    normalised = Operator.normalised

    def __init__(self, predictor: nn.Conv2d, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        assert predictor.bias is not None and predictor.out_channels == 3 * TAPS
        self.predictor = copy.deepcopy(predictor)
        # vertical offsets, horizontal ones, mask; with where the taps lie beside the centre, predicted positions
        order = torch.tensor([*range(0, 2 * TAPS, 2), *range(1, 2 * TAPS, 2), *range(2 * TAPS, 3 * TAPS)])
        taps = torch.arange(TAPS)
        places = torch.cat([taps // 3 - 1, taps % 3 - 1, torch.zeros(TAPS)])
        self.predictor.weight = nn.Parameter(predictor.weight[order].contiguous(), requires_grad=False)
        self.predictor.bias = nn.Parameter(predictor.bias[order] + places, requires_grad=False)
        kernels = [kernel[..., None, None].clone() for kernel in weight.detach().flatten(2).unbind(2)]
        self.kernels = nn.ParameterList(nn.Parameter(kernel, requires_grad=False) for kernel in kernels)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)

    def forward(self, *features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o h w"]:
        """The output, from the activated source, which is the last feature."""
        image = features[-1]
        height, width = image.shape[-2:]
        vertical, horizontal, mask = self.predictor(image).split(TAPS, dim=1)
        rows = torch.arange(height, device=image.device, dtype=image.dtype)[:, None]
        columns = torch.arange(width, device=image.device, dtype=image.dtype)
        # where grid_sample without aligned corners finds pixel i is (2 i + 1) / n - 1
        y = (2 * (rows + vertical) + 1) / height - 1
        x = (2 * (columns + horizontal) + 1) / width - 1
        # far outside there is nothing, and an infinite position would be no number
        grid = torch.stack([x, y], dim=-1).clamp(-3, 3)
        total: Tensor | None = None
        for places, factor, kernel in zip(grid.unbind(1), mask.sigmoid().split(1, dim=1), self.kernels, strict=True):
            sample = F.grid_sample(image, places, mode="bilinear", padding_mode="zeros", align_corners=False)
            product = F.conv2d(sample * factor, kernel, self.bias if total is None else None)
            total = product if total is None else total + product
        assert total is not None
        return total
