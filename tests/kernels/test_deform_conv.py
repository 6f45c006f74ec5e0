"""Deformable convolution against the plain convolution it contains, torchvision, and the definition written out."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from reference_deformable import plain_deform_conv2d, torchvision_deform_conv2d
from torch import Tensor

from irnas_ray.kernels.deform_conv import deform_conv2d

ORACLES = [
    pytest.param(plain_deform_conv2d, id="plain"),
    pytest.param(
        torchvision_deform_conv2d,
        id="torchvision",
        marks=pytest.mark.skipif(torchvision_deform_conv2d is None, reason="torchvision cannot be imported here"),
    ),
]


@dataclass(frozen=True)
class Geometry:
    """Sizes of one deformable convolution."""

    batch: int = 2
    channels: int = 4
    outputs: int = 6
    image: tuple[int, int] = (7, 6)
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    offset_groups: int = 1
    spread: float = 2.0

    @property
    def size(self) -> tuple[int, ...]:
        return tuple(
            (length + 2 * pad - rate * (kernel - 1) - 1) // step + 1
            for length, kernel, step, pad, rate in zip(
                self.image, self.kernel, self.stride, self.padding, self.dilation, strict=True
            )
        )

    def tensors(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> dict[str, Any]:
        random = torch.Generator().manual_seed(seed)
        taps = self.offset_groups * self.kernel[0] * self.kernel[1]
        shapes = {
            "input": (self.batch, self.channels, *self.image),
            "offset": (self.batch, 2 * taps, *self.size),
            "weight": (self.outputs, self.channels // self.groups, *self.kernel),
            "bias": (self.outputs,),
            "mask": (self.batch, taps, *self.size),
        }
        tensors = {name: torch.randn(shape, generator=random, dtype=dtype) for name, shape in shapes.items()}
        return tensors | {"offset": tensors["offset"] * self.spread}

    @property
    def keywords(self) -> dict[str, tuple[int, int]]:
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}


GEOMETRIES = [
    Geometry(),
    Geometry(batch=1, image=(8, 16)),
    Geometry(image=(1, 9), batch=1),
    Geometry(image=(9, 1)),
    Geometry(image=(1, 1), batch=1, channels=1, outputs=1),
    Geometry(stride=(2, 1), padding=(0, 2)),
    Geometry(dilation=(2, 3), padding=(2, 3)),
    Geometry(kernel=(1, 5), padding=(0, 2), stride=(1, 3)),
    Geometry(offset_groups=2),
    Geometry(groups=2),
    Geometry(groups=2, offset_groups=4),
    Geometry(groups=4, outputs=8, offset_groups=2, stride=(2, 2)),
    Geometry(spread=50.0),
]


def with_gradients(function, tensors: dict[str, Tensor], keywords) -> dict[str, Tensor]:
    """The output and the gradient of a fixed scalar of it in every tensor."""
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in tensors.items()}
    output = function(**leaves, **keywords)
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).cos().reshape(output.shape)
    weights = weights.to(output.device)
    (output * weights).sum().backward()
    return {"output": output.detach()} | {name: leaf.grad for name, leaf in leaves.items()}


@pytest.mark.parametrize("oracle", ORACLES)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_values_and_gradients_equal_the_oracles(oracle, geometry):
    tensors = geometry.tensors()
    mine = with_gradients(deform_conv2d, tensors, geometry.keywords)
    theirs = with_gradients(oracle, tensors, geometry.keywords)
    for name, expected in theirs.items():
        torch.testing.assert_close(mine[name], expected, rtol=1e-9, atol=1e-9, msg=f"{name} differs")


@pytest.mark.parametrize("oracle", ORACLES)
def test_single_precision(oracle):
    geometry = Geometry(image=(13, 11))
    tensors = geometry.tensors(torch.float32)
    mine, theirs = (with_gradients(f, tensors, geometry.keywords) for f in (deform_conv2d, oracle))
    for name in theirs:
        torch.testing.assert_close(mine[name], theirs[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("oracle", ORACLES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("image", [(7, 9), (8, 8), (1, 5)])
def test_derivative_at_whole_positions_is_the_one_to_the_right(oracle, dtype, image):
    """Zero offsets are where a new ``def`` starts: rounding must not choose the side of the kink pixel by pixel."""
    geometry = Geometry(image=image, kernel=(3, 3))
    tensors = geometry.tensors(dtype)
    for offset in (torch.zeros_like(tensors["offset"]), tensors["offset"].round()):
        tensors["offset"] = offset
        mine, theirs = (with_gradients(f, tensors, geometry.keywords)["offset"] for f in (deform_conv2d, oracle))
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype,tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("geometry", [g for g in GEOMETRIES if g.spread < 50], ids=str)
def test_zero_offsets_and_unit_mask_are_a_convolution(geometry, dtype, tolerance):
    tensors = geometry.tensors(dtype)
    still = {"offset": torch.zeros_like(tensors["offset"]), "mask": torch.ones_like(tensors["mask"])}
    expected = F.conv2d(
        tensors["input"], tensors["weight"], tensors["bias"], groups=geometry.groups, **geometry.keywords
    )
    for mask in (still["mask"], None):
        output = deform_conv2d(**(tensors | still | {"mask": mask}), **geometry.keywords)
        torch.testing.assert_close(output, expected, rtol=tolerance, atol=tolerance)


def test_whole_offsets_shift_the_image():
    geometry = Geometry(padding=(0, 0))
    tensors = geometry.tensors()
    offset = torch.zeros_like(tensors["offset"]).unflatten(1, (9, 2))
    offset[:, :, 0], offset[:, :, 1] = 1, -2  # one row down, two columns to the left
    shifted = F.pad(tensors["input"], (2, 0, 0, 1))[:, :, 1:, :-2]
    output = deform_conv2d(tensors["input"], offset.flatten(1, 2), tensors["weight"])
    torch.testing.assert_close(output, F.conv2d(shifted, tensors["weight"]), rtol=1e-10, atol=1e-10)


def test_far_outside_is_zero():
    tensors = Geometry().tensors()
    for far in (-1e6, 1e6):
        moved = tensors | {"offset": torch.full_like(tensors["offset"], far), "bias": None}
        assert deform_conv2d(**moved, padding=1).abs().max() == 0


def test_int_and_pair_arguments_agree():
    tensors = Geometry(stride=(2, 2)).tensors()
    one = deform_conv2d(**tensors, stride=2, padding=1, dilation=1)
    assert torch.equal(one, deform_conv2d(**tensors, stride=(2, 2), padding=(1, 1), dilation=(1, 1)))


def test_gradcheck():
    tensors = Geometry(batch=1, channels=2, outputs=2, image=(3, 4), kernel=(2, 2), padding=(1, 0)).tensors()
    names = list(tensors)
    leaves = [tensors[name].requires_grad_() for name in names]
    assert torch.autograd.gradcheck(
        lambda *values: deform_conv2d(**dict(zip(names, values, strict=True)), padding=(1, 0)), leaves
    )


def test_usable_for_training_after_inference_mode():
    """Cached sampling grids must not carry inference tensors into a later backward pass."""
    tensors = Geometry(image=(5, 11)).tensors()
    with torch.inference_mode():
        quiet = deform_conv2d(**tensors, padding=1)
    output = deform_conv2d(**(tensors | {"offset": tensors["offset"].requires_grad_()}), padding=1)
    output.sum().backward()
    assert torch.equal(quiet, output)


@pytest.mark.parametrize(
    "name,shape",
    [
        ("input", (4, 7, 6)),
        ("input", (1, 4, 7, 6)),
        ("input", (2, 3, 7, 6)),
        ("input", (2, 4, 8, 6)),
        ("offset", (2, 17, 7, 6)),
        ("offset", (2, 4, 7, 6)),
        ("offset", (2, 54, 7, 6)),
        ("offset", (2, 18, 7, 5)),
        ("weight", (6, 3, 3, 3)),
        ("weight", (6, 5, 3, 3)),
        ("weight", (3, 2, 3, 3)),
        ("weight", (6, 4, 3)),
        ("bias", (5,)),
        ("bias", (1,)),
        ("mask", (2, 18, 7, 6)),
        ("mask", (2, 9, 6, 7)),
        ("mask", (1, 9, 7, 6)),
    ],
)
def test_shapes_that_do_not_fit(name, shape, unannotated):
    tensors = Geometry().tensors() | {name: torch.zeros(shape, dtype=torch.float64)}
    with pytest.raises(ValueError, match=r"^(input|offset|weight|bias|mask): .*\d"):
        deform_conv2d(**tensors, padding=1)
