"""What deform_conv2d takes and what it refuses; the properties that peers' tests of this operator ask for."""

import math

import pytest
import torch
from reference_deformable import plain_deform_conv2d
from test_deform_conv import Geometry, with_gradients
from torch import Tensor

from irnas_ray.kernels import compiled, grid_sample, native, sampled_product
from irnas_ray.kernels.deform_conv import deform_conv2d

ODD = Geometry(
    channels=6, outputs=4, image=(6, 5), kernel=(3, 2), stride=(2, 1), padding=(1, 0), dilation=(2, 1), groups=2,
    offset_groups=3,
)  # fmt: skip
NAMES = ("input", "offset", "weight", "bias", "mask")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_mixed_types_are_refused_by_name(name, dtype):
    """A compiled kernel that trusts the image's type reads the others as raw float32, past their ends."""
    tensors = Geometry().tensors(torch.float32)
    tensors[name] = tensors[name].to(dtype)
    with pytest.raises(ValueError, match=r"^(offset|weight|bias|mask): torch\.\w+, but input is torch\.\w+") as e:
        deform_conv2d(**tensors, padding=1)
    assert str(dtype) in str(e.value) and "torch.float32" in str(e.value)
    assert name == "input" or str(e.value).startswith(name)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_types_without_meaning_are_refused(name, dtype, unannotated):
    tensors = Geometry().tensors(torch.float32)
    tensors[name] = tensors[name].to(dtype)
    with pytest.raises(ValueError, match=f"^{name}: {dtype}, .*floating"):
        deform_conv2d(**tensors, padding=1)


def test_no_autocast_on_a_device_that_has_none():
    tensors = {name: tensor.to("meta") for name, tensor in Geometry().tensors(torch.float32).items()}
    weight = tensors["weight"].requires_grad_()
    output = deform_conv2d(**tensors, padding=1)
    output.sum().backward()
    assert output.is_meta and weight.grad.shape == weight.shape


def test_another_device_and_another_layout_are_refused():
    tensors = Geometry().tensors(torch.float32)
    with pytest.raises(ValueError, match="^offset: on meta, but input is on cpu"):
        deform_conv2d(**(tensors | {"offset": tensors["offset"].to("meta")}), padding=1)
    with pytest.raises(ValueError, match="^weight: torch.float32, torch.sparse_coo"):
        deform_conv2d(**(tensors | {"weight": tensors["weight"].to_sparse()}), padding=1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_single_precision_rounded_at_the_end(dtype):
    half = Geometry().tensors(dtype)
    mine = with_gradients(deform_conv2d, half, {"padding": 1})
    single = deform_conv2d(**{name: tensor.float() for name, tensor in half.items()}, padding=1)
    assert torch.equal(mine["output"], single.to(dtype))
    assert all(mine[name].dtype == dtype and torch.isfinite(mine[name]).all() for name in NAMES)


@pytest.mark.parametrize("lower", NAMES)
def test_autocast_promotes_mixed_types(lower):
    """As torchvision registers it: computed in float32, returned in the type of the input."""
    tensors = Geometry().tensors(torch.float32)
    tensors[lower] = tensors[lower].bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = deform_conv2d(**tensors, padding=1)
    single = deform_conv2d(**{name: tensor.float() for name, tensor in tensors.items()}, padding=1)
    assert torch.equal(output, single.to(tensors["input"].dtype))


def transposed(tensor: Tensor) -> Tensor:
    return tensor.mT.contiguous().mT if tensor.ndim > 1 else tensor


def sliced(tensor: Tensor) -> Tensor:
    larger = torch.full([2 * length + 1 for length in tensor.shape], math.nan, dtype=tensor.dtype)
    view = larger[tuple(slice(1, None, 2) for _ in tensor.shape)]
    return view.copy_(tensor)


LAYOUTS = {
    "channels last": lambda tensor: tensor.to(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor,
    "transposed": transposed,
    "sliced": sliced,
    "negated view": lambda tensor: torch._neg_view(-tensor),
    "from the middle": lambda tensor: torch.cat([tensor.flatten(), tensor.flatten()])[tensor.numel() :].view_as(tensor),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("geometry", [Geometry(), ODD], ids=["plain", "groups"])
def test_layouts_do_not_change_values(geometry, dtype, layout):
    tensors = geometry.tensors(dtype)
    expected = with_gradients(deform_conv2d, tensors, geometry.keywords)
    for name in NAMES:
        leaves = {key: value.clone().requires_grad_() for key, value in tensors.items()}
        output = deform_conv2d(**(leaves | {name: LAYOUTS[layout](leaves[name])}), **geometry.keywords)
        weights = torch.linspace(-1, 1, output.numel(), dtype=dtype).cos().reshape(output.shape)
        (output * LAYOUTS[layout](weights)).sum().backward()
        torch.testing.assert_close(output, expected["output"])
        for key in NAMES:
            torch.testing.assert_close(leaves[key].grad, expected[key])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_expanded_tensors_and_gradients(dtype):
    tensors = Geometry(batch=3).tensors(dtype)
    for name in NAMES:
        tensors[name] = tensors[name][:1].expand_as(tensors[name])
    leaves = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    torch.testing.assert_close(deform_conv2d(**tensors, padding=1), deform_conv2d(**leaves, padding=1))
    weight = tensors["weight"].clone().requires_grad_()
    deform_conv2d(**(tensors | {"weight": weight}), padding=1).sum().backward()  # the gradient of a sum has strides 0
    expected = leaves["weight"].requires_grad_()
    plain_deform_conv2d(**(leaves | {"weight": expected}), padding=(1, 1)).sum().backward()
    torch.testing.assert_close(weight.grad, expected.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("geometry", [Geometry(batch=0), Geometry(batch=0, groups=2, offset_groups=4)], ids=str)
def test_an_empty_batch_gives_an_empty_result(geometry, mask, dtype):
    tensors = {key: value for key, value in geometry.tensors(dtype).items() if mask or key != "mask"}
    result = with_gradients(deform_conv2d, tensors, geometry.keywords)
    assert result["output"].shape == (0, 6, 7, 6) and result["output"].dtype == dtype
    for name, tensor in tensors.items():
        assert result[name].shape == tensor.shape and not result[name].any()


@pytest.mark.parametrize("batch", [0, 2])
@pytest.mark.parametrize("mask", [True, False])
def test_gradcheck_with_uneven_geometry_and_groups(batch, mask):
    geometry = Geometry(
        batch=batch, channels=4, outputs=2, image=(5, 4), kernel=(2, 3), stride=(1, 2), padding=(2, 1),
        dilation=(2, 1), groups=2, offset_groups=2,
    )  # fmt: skip
    tensors = {key: value for key, value in geometry.tensors().items() if mask or key != "mask"}
    leaves = [tensor.requires_grad_() for tensor in tensors.values()]
    assert torch.autograd.gradcheck(
        lambda *values: deform_conv2d(**dict(zip(tensors, values, strict=True)), **geometry.keywords),
        leaves,
        fast_mode=True,
    )


@pytest.mark.parametrize("dtype,tolerance", [(torch.float32, 1e-4), (torch.float64, 1e-9)])
@pytest.mark.parametrize("batch", [1, 33])
def test_a_batch_is_its_members(batch, dtype, tolerance):
    geometry = Geometry(**(ODD.__dict__ | {"batch": batch}))
    tensors = geometry.tensors(dtype)
    whole = deform_conv2d(**tensors, **geometry.keywords)
    torch.testing.assert_close(
        whole, plain_deform_conv2d(**tensors, **geometry.keywords), rtol=tolerance, atol=tolerance
    )
    for index in range(batch):
        one = {key: value[index : index + 1] for key, value in tensors.items() if key in ("input", "offset", "mask")}
        alone = deform_conv2d(**(tensors | one), **geometry.keywords)[0]
        torch.testing.assert_close(alone, whole[index], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_sample_between_four_pixels_is_their_weighted_mean(dtype):
    image = torch.tensor([[[[1.0, 2.0, 4.0], [8.0, 16.0, 32.0], [64.0, 128.0, 256.0]]]], dtype=dtype)
    offset = torch.zeros(1, 2, 3, 3, dtype=dtype)
    offset[0, :, 0, 0] = torch.tensor([0.25, 0.5])  # 0.75 * (1 + 2) / 2 + 0.25 * (8 + 16) / 2
    offset[0, :, 2, 2] = torch.tensor([0.5, 0.0])  # half of it outside
    output = deform_conv2d(image, offset, 2 * torch.ones(1, 1, 1, 1, dtype=dtype))
    assert output[0, 0, 0, 0] == 2 * 4.125 and output[0, 0, 2, 2] == 256 and output[0, 0, 1, 1] == 32


@pytest.mark.parametrize(
    "setting,value",
    [
        ("stride", 0),
        ("stride", (1, 0)),
        ("stride", -1),
        ("stride", (1, 1, 1)),
        ("stride", (1,)),
        ("stride", 1.5),
        ("stride", (1.5, 1)),
        ("stride", "12"),
        ("stride", None),
        ("padding", -1),
        ("padding", (0, 0, 0)),
        ("padding", ()),
        ("padding", "same"),
        ("dilation", 0),
        ("dilation", (1, -2)),
        ("dilation", [1, 2, 3]),
    ],
)
def test_settings_out_of_range(setting, value, unannotated):
    with pytest.raises(ValueError, match=f"^{setting}: .* at least [01]$"):
        deform_conv2d(**Geometry().tensors(), **({"padding": 1} | {setting: value}))


@pytest.mark.parametrize(
    "name,shape",
    [
        ("input", (2, 0, 7, 6)),
        ("input", (2, 4, 0, 6)),
        ("input", (0, 4, 7, 6)),
        ("input", (2, 4, 2, 6)),
        ("weight", (0, 4, 3, 3)),
        ("weight", (6, 0, 3, 3)),
        ("weight", (6, 4, 0, 3)),
        ("weight", (6, 4, 12, 3)),
        ("weight", (5, 2, 3, 3)),
        ("weight", (6, 8, 3, 3)),
        ("offset", (2, 0, 7, 6)),
        ("offset", (2, 18, 0, 6)),
        ("offset", (2, 18, 7)),
        ("offset", (3, 18, 7, 6)),
        ("mask", (2, 0, 7, 6)),
        ("mask", (2, 9)),
        ("bias", (6, 1)),
        ("bias", ()),
    ],
)
def test_empty_and_odd_shapes_are_refused(name, shape, unannotated):
    tensors = Geometry().tensors() | {name: torch.zeros(shape, dtype=torch.float64)}
    with pytest.raises(ValueError, match=r"^(input|offset|weight|bias|mask): "):
        deform_conv2d(**tensors, padding=1)


@pytest.mark.parametrize("mask", [True, False], ids=["mask", "no mask"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30, -1e30])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("backend", [native, grid_sample], ids=["compiled", "grid_sample"])
def test_positions_that_are_no_place(backend, axis, bad, mask, monkeypatch):
    """What is not a number stays so, what is infinitely far is outside; nothing but the output that read it sees it.

    torchvision is no witness: at a position that is not a number it reads outside its image, and may crash.
    """
    if backend is native and not compiled.available:
        pytest.skip("the package was installed without a C compiler")
    monkeypatch.setattr(sampled_product, "_backend", lambda *tensors: backend)
    tensors = Geometry(channels=2, outputs=1).tensors(torch.float32)
    tensors = {key: value for key, value in tensors.items() if mask or key != "mask"}
    tensors["offset"].unflatten(1, (9, 2))[1, 4, axis, 3, 2] = bad  # one tap of one output
    mine = with_gradients(deform_conv2d, tensors, {"padding": 1})
    tensors["offset"].unflatten(1, (9, 2))[1, 4, axis, 3, 2] = 1e6
    outside = with_gradients(deform_conv2d, tensors, {"padding": 1})
    touched = torch.zeros_like(mine["output"], dtype=torch.bool)
    touched[1, :, 3, 2] = math.isnan(bad)
    assert torch.equal(mine["output"].isnan(), touched)
    torch.testing.assert_close(mine["output"][~touched], outside["output"][~touched])
    torch.testing.assert_close(mine["input"], outside["input"])
    other = mine["offset"].unflatten(1, (9, 2))[1, 4, 1 - axis, 3, 2]
    assert math.isnan(other) == math.isnan(bad) and mine["offset"].isnan().sum() == math.isnan(bad)
    if mask:
        assert mine["mask"].isnan().sum() == math.isnan(bad)
