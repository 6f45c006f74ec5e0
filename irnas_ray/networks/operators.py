"""The candidate operators (section 3.1); a new one is a class, a line in ``OPERATIONS``, and a name in ``genotypes``.

An operator maps one source to all nodes that read it: its convolutions carry the output channels of every destination,
so that edges that leave one source share the activation and the convolution. With one destination it is the operator
of a single edge. Batch normalisation follows outside, over the concatenated outputs, which is exact because it treats
channels one by one.
"""

from collections.abc import Callable
from functools import wraps

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from irnas_ray.genotypes.genotype import MOST_WIDTH
from irnas_ray.kernels.geometry import Geometry
from irnas_ray.kernels.sampled_product import SampledProduct
from irnas_ray.kernels.separable_conv import SeparableProduct

#: Makes the normalisation of so many channels within an operator; ``nn.Identity`` where a network has none.
Norm = Callable[[int], nn.Module]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "leaky_relu": lambda: nn.LeakyReLU(0.2)}


def in_single_precision(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An operator's ``forward`` that is computed in float32 within autocast too.

    Autocast does not look into derivatives made by hand, and bfloat16 tells sampling positions in an image of 64 pixels
    apart by a quarter of a pixel only.
    """

    @wraps(forward)
    def wrapped(operator: nn.Module, *tensors: Tensor) -> Tensor:
        kind = tensors[0].device.type
        if not torch.is_autocast_enabled(kind):
            return forward(operator, *tensors)
        with torch.autocast(kind, enabled=False):
            return forward(operator, *(tensor.float() for tensor in tensors))

    return wrapped


class DilatedConv2d(nn.Conv2d):
    """A convolution that is computed in float32 within autocast on a CPU.

    In bfloat16 and ``channels_last`` oneDNN, as of PyTorch 2.15, gives dilated kernels gradients that are not numbers
    or far off, depthwise ones too, and may end the process.
    """

    def forward(self, input: Tensor) -> Tensor:
        return self._exact(input) if input.device.type == "cpu" else super().forward(input)

    @in_single_precision
    def _exact(self, input: Tensor) -> Tensor:
        return super().forward(input)


class Operator(nn.Module):
    """Base of all operators: ``(b c h w)`` of one source to ``(b destinations*c h w)``, destination by destination.

    An operator that gives every destination the same may give it once, as ``(b c h w)``.
    """

    #: Whether batch normalisation follows; the outputs of other operators are used as they are.
    normalised = True

    def __init__(self, width: int, destinations: int, activation: str, sep_repeats: int, norm: Norm) -> None:
        super().__init__()
        self.width, self.destinations = width, destinations

    def forward(
        self, source: Float[Tensor, "b c h w"], activated: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b out h w"]:
        """Outputs for all destinations from the source and its activation."""
        raise NotImplementedError

    def single(
        self, source: Float[Tensor, "b c h w"], activated: Float[Tensor, "b c h w"], destination: int
    ) -> Float[Tensor, "b c h w"]:
        """The output for one destination alone."""
        output = self(source, activated)
        return output if output.shape[1] == self.width else output.unflatten(1, (-1, self.width))[:, destination]

    def _part(self, destination: int) -> slice:
        """Where a destination's channels lie."""
        return slice(destination * self.width, (destination + 1) * self.width)


class PlainOperator(Operator):
    """Base of operators without a joint form for all destinations: a module for each edge, evaluated one by one."""

    def __init__(self, width: int, destinations: int, activation: str, sep_repeats: int, norm: Norm) -> None:
        super().__init__(width, destinations, activation, sep_repeats, norm)
        self.edges = nn.ModuleList(self.make_edge(width) for _ in range(destinations))

    def make_edge(self, width: int) -> nn.Module:
        """A module that maps the activated source (b c h w) to what batch normalisation gets, (b c h w)."""
        raise NotImplementedError

    def forward(
        self, source: Float[Tensor, "b c h w"], activated: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b out h w"]:
        return torch.cat([edge(activated) for edge in self.edges], dim=1)

    def single(
        self, source: Float[Tensor, "b c h w"], activated: Float[Tensor, "b c h w"], destination: int
    ) -> Float[Tensor, "b c h w"]:
        return self.edges[destination](activated)


class Convolution(Operator):
    """``conv``: 3x3 convolution."""

    dilation = 1

    def __init__(self, width: int, destinations: int, activation: str, sep_repeats: int, norm: Norm) -> None:
        super().__init__(width, destinations, activation, sep_repeats, norm)
        kind = nn.Conv2d if self.dilation == 1 else DilatedConv2d
        self.convolution = kind(
            width, destinations * width, 3, padding=self.dilation, dilation=self.dilation, bias=False
        )

    def forward(
        self, source: Float[Tensor, "b c h w"], activated: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b out h w"]:
        return self.convolution(activated)

    def single(
        self, source: Float[Tensor, "b c h w"], activated: Float[Tensor, "b c h w"], destination: int
    ) -> Float[Tensor, "b c h w"]:
        weight = self.convolution.weight[self._part(destination)]
        return F.conv2d(activated, weight, padding=self.dilation, dilation=self.dilation)


class DilatedConvolution(Convolution):
    """``dil``: 3x3 convolution with dilation 2."""

    dilation = 2


#: Most pairs of convolutions of ``sep``.
MOST_REPEATS = 100


class SeparableConvolution(Operator):
    """``sep``: 3x3 depthwise, then 1x1 pointwise convolution; the pair is applied ``sep_repeats`` times."""

    def __init__(self, width: int, destinations: int, activation: str, sep_repeats: int, norm: Norm) -> None:
        super().__init__(width, destinations, activation, sep_repeats, norm)
        if not 1 <= sep_repeats <= MOST_REPEATS:
            raise ValueError(f"sep_repeats: {sep_repeats}; at least 1 and at most {MOST_REPEATS}")
        total = destinations * width
        self.depthwise = nn.Conv2d(total, total, 3, padding=1, groups=total, bias=False)
        self.pointwise = nn.Conv2d(total, total, 1, groups=destinations, bias=False)
        self.repeats = nn.ModuleList(
            nn.Sequential(
                norm(total),
                ACTIVATIONS[activation](),
                nn.Conv2d(total, total, 3, padding=1, groups=total, bias=False),
                nn.Conv2d(total, total, 1, groups=destinations, bias=False),
            )
            for _ in range(sep_repeats - 1)
        )

    @in_single_precision
    def forward(
        self, source: Float[Tensor, "b c h w"], activated: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b out h w"]:
        output = _separable(activated, self.depthwise.weight, self.pointwise.weight)
        for pair in self.repeats:
            output = pair(output)
        return output

    def single(
        self, source: Float[Tensor, "b c h w"], activated: Float[Tensor, "b c h w"], destination: int
    ) -> Float[Tensor, "b c h w"]:
        if len(self.repeats):
            return super().single(source, activated, destination)
        part = self._part(destination)
        return _separable(activated, self.depthwise.weight[part], self.pointwise.weight[part])


def _separable(activated: Tensor, depthwise: Tensor, pointwise: Tensor) -> Tensor:
    if len(depthwise) == activated.shape[1] and activated.is_contiguous(memory_format=torch.channels_last):
        # in this layout both are fast as they are, and the output keeps it
        return F.conv2d(F.conv2d(activated, depthwise, padding=1, groups=len(depthwise)), pointwise)
    output = SeparableProduct.apply(activated, depthwise, pointwise)
    assert isinstance(output, Tensor)
    return output


class DeformableConvolution(Operator):
    """``def``: 3x3 modulated deformable convolution; a zero-initialised 3x3 convolution predicts offsets and mask."""

    def __init__(self, width: int, destinations: int, activation: str, sep_repeats: int, norm: Norm) -> None:
        super().__init__(width, destinations, activation, sep_repeats, norm)
        self.predictor = nn.Conv2d(width, destinations * 27, 3, padding=1)
        nn.init.zeros_(self.predictor.weight)
        nn.init.zeros_(self.predictor.bias)  # type: ignore[arg-type]
        self.convolution = nn.Conv2d(width, destinations * width, 3, padding=1, bias=False)

    @in_single_precision
    def forward(
        self, source: Float[Tensor, "b c h w"], activated: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b out h w"]:
        # every destination has its own offsets and kernel, all read the same image
        predicted = self.predictor(activated).unflatten(1, (self.destinations, 27))
        offset, mask = predicted[:, :, :18].unflatten(2, (9, 2)), predicted[:, :, 18:].sigmoid()
        kernels = self.convolution.weight.reshape(self.destinations, self.width, -1)
        geometry = Geometry((3, 3), (1, 1), (1, 1), (1, 1), (source.shape[2], source.shape[3]))
        return SampledProduct.apply(activated.unsqueeze(1), offset, mask, kernels, geometry).flatten(1, 2)


class Skip(Operator):
    """``skip``: the source itself, not activated and not normalised."""

    normalised = False

    def forward(
        self, source: Float[Tensor, "b c h w"], activated: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b out h w"]:
        return source


class GatedConvolution(PlainOperator):
    """``gate``: a 3x3 convolution to twice the channels, whose halves multiply each other (Chen et al. 2022)."""

    def make_edge(self, width: int) -> nn.Module:
        return _Gated(width)


class _Gated(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(width, 2 * width, 3, padding=1)

    def forward(self, activated: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        first, second = self.convolution(activated).chunk(2, dim=1)
        return first * second


#: Every operator by its name; ``none`` is not a class, as it contributes zero.
OPERATIONS: dict[str, type[Operator]] = {
    "conv": Convolution,
    "sep": SeparableConvolution,
    "dil": DilatedConvolution,
    "def": DeformableConvolution,
    "skip": Skip,
    "gate": GatedConvolution,
}


def projection(inputs: int, outputs: int, activation: str, affine: bool) -> nn.Sequential:
    """Activation, 1x1 convolution, batch normalisation: brings features to the width of a cell."""
    return nn.Sequential(
        ACTIVATIONS[activation](),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs, affine=affine),
    )


def resized(inputs: int, outputs: int) -> nn.Module:
    """Brings features of a network without normalisation to a width: a 1x1 convolution, or nothing where it is theirs.

    Such features are sums of residual blocks, so that nothing but a linear map may stand on their way.
    """
    return nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)


def joined(nodes: int, width: int) -> nn.Conv2d:
    """The 1x1 convolution that ends a cell without normalisation: zero at first, so that the cell changes nothing."""
    convolution = nn.Conv2d(nodes * width, width, 1)
    nn.init.zeros_(convolution.weight)
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    return convolution


def make_last(inputs: int, outputs: int, zero: bool = False) -> nn.Conv2d:
    """The 3x3 convolution that ends a network; zero at first, a network with a residual connection begins as identity.

    Otherwise the first steps make all features negative to take the error back, and with an activation before this
    convolution nothing brings them up again: 8 of 16 random networks without normalisation never learned anything.
    """
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
    if zero:
        nn.init.zeros_(convolution.weight)
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    return convolution


def check_operators(operators: list[str] | tuple[str, ...]) -> None:
    """ValueError that lists the possible names unless all operators are known, different, and one does something."""
    possible = [*OPERATIONS, "none"]
    for name in operators:
        if name not in possible:
            raise ValueError(f"operators: unknown operator {name!r}; possible: {', '.join(possible)}")
    if len(set(operators)) != len(operators) or not set(operators) - {"none"}:
        raise ValueError(f"operators: {list(operators)} must be different names and not only 'none'")


def activate(name: str, tensor: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """The named activation of a tensor, as a new tensor."""
    return F.relu(tensor) if name == "relu" else F.leaky_relu(tensor, 0.2)


def check_activation(name: str) -> None:
    """ValueError that lists the possible names unless the activation is known."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation: unknown {name!r}; possible: {', '.join(ACTIVATIONS)}")


def level_width(width: int, multiplier: float) -> int:
    """Channels of a node at a level; ValueError unless ``width`` times ``multiplier`` is whole and possible."""
    # a width alone may be more than a float can hold
    if not (width <= MOST_WIDTH and width * multiplier <= MOST_WIDTH):
        raise ValueError(f"width: {width} times {multiplier} of multipliers; a level has at most {MOST_WIDTH} channels")
    channels = width * multiplier
    if width < 1 or channels < 1 or abs(channels - round(channels)) > 1e-6:
        raise ValueError(
            f"width: {width} times {multiplier} is not a whole number of channels; choose another basic width"
        )
    return round(channels)
