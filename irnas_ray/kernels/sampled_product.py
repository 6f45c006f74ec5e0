"""The product of a kernel with bilinear samples, differentiated by hand so that no sample is kept.

Nine samples for every value are nearly the whole memory of a deformable convolution. They are cheap to take again in
the backward pass, group by group in the processor's cache, where kept ones must travel to memory and back.
"""

import os
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from irnas_ray.kernels import compiled, grid_sample, native
from irnas_ray.kernels.derivatives import differentiable_once
from irnas_ray.kernels.geometry import Geometry

#: What is computed with; integers, complex numbers and eight-bit floats have no meaning here.
FLOATING = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def check_alike(**tensors: Tensor | None) -> None:
    """ValueError that names the tensor unless all are dense, of one floating type and on one device, as the first."""
    (first, leader), *_ = tensors.items()
    assert leader is not None
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if tensor.dtype not in FLOATING or tensor.layout != torch.strided:
            raise ValueError(f"{name}: {tensor.dtype}, {tensor.layout}; expected a dense tensor of floating numbers")
        if tensor.dtype != leader.dtype:
            raise ValueError(f"{name}: {tensor.dtype}, but {first} is {leader.dtype}; convert one of them")
        if tensor.device != leader.device:
            raise ValueError(f"{name}: on {tensor.device}, but {first} is on {leader.device}; move one of them")


class SampledProduct(torch.autograd.Function):
    """Samples of an image at moved positions, times a mask, times a kernel, for several groups.

    ``image`` (b 1 c h w), read by all groups, or (b groups c h w); ``offset`` (b groups taps 2 ho wo) in pixels as
    (dy, dx); ``mask`` (b groups taps ho wo) or None; ``weight`` (groups o c*taps). Gives (b groups o ho wo). Raises
    ValueError unless all are of one floating type, on one device, and their shapes fit.
    """

    @staticmethod
    def forward(
        ctx: Any, image: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, geometry: Geometry
    ) -> Tensor:
        check_alike(image=image, offset=offset, mask=mask, weight=weight)
        _check_shapes(image, offset, mask, weight, geometry)
        ctx.save_for_backward(image, offset, mask, weight)
        ctx.geometry = geometry
        batch, groups = offset.shape[:2]
        output = image.new_empty(batch, groups, weight.shape[1], *geometry.size)
        if not batch:
            return output
        backend = _backend(image, offset, mask, weight)
        prepared = backend.prepare(image)
        for chunk in _chunks(batch, groups, image.device):
            masks = None if mask is None else mask[:, chunk]
            output[:, chunk] = backend.product(_of(prepared, chunk), offset[:, chunk], masks, weight[chunk], geometry)
        return output

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        image, offset, mask, weight = ctx.saved_tensors
        if not len(image):
            return *(None if tensor is None else torch.zeros_like(tensor) for tensor in ctx.saved_tensors), None
        backend = _backend(image, offset, mask, weight, gradient)
        prepared = backend.prepare(image)
        into_prepared = torch.zeros_like(prepared)
        into_offset = torch.empty_like(offset, memory_format=torch.contiguous_format)
        into_mask = None if mask is None else torch.empty_like(mask, memory_format=torch.contiguous_format)
        into_weight = torch.empty_like(weight) if ctx.needs_input_grad[3] else None
        for chunk in _chunks(offset.shape[0], offset.shape[1], image.device):
            part = backend.gradients(
                _of(prepared, chunk),
                offset[:, chunk],
                None if mask is None else mask[:, chunk],
                weight[chunk],
                gradient[:, chunk],
                ctx.geometry,
                into_weight is not None,
            )
            if image.shape[1] == 1:
                into_prepared += part.image.sum(dim=1, keepdim=True)
            else:
                into_prepared[:, chunk] = part.image
            into_offset[:, chunk] = part.offset
            if into_mask is not None:
                into_mask[:, chunk] = part.mask
            if into_weight is not None:
                into_weight[chunk] = part.weight.sum(dim=0)
        return backend.unprepare(into_prepared, image), into_offset, into_mask, into_weight, None


def _check_shapes(image: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, geometry: Geometry) -> None:
    if (
        image.ndim != 5
        or offset.ndim != 6
        or weight.ndim != 3
        or 0 in (*image.shape[1:], *weight.shape, *geometry.size)
    ):
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in (image, offset, weight))
        raise ValueError(f"image, offset, weight: shapes {shapes}; expected 5, 6, 3 dimensions and no empty one")
    batch, groups = offset.shape[:2]
    expected: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {
        "image": (image, (batch, 1 if image.shape[1] == 1 else groups, *image.shape[2:])),
        "offset": (offset, (batch, groups, geometry.taps, 2, *geometry.size)),
        "mask": (mask, (batch, groups, geometry.taps, *geometry.size)),
        "weight": (weight, (groups, weight.shape[1], image.shape[2] * geometry.taps)),
    }
    for name, (tensor, shape) in expected.items():
        if tensor is not None and tensor.shape != shape:
            raise ValueError(f"{name}: shape {tuple(tensor.shape)}; expected {shape}")


def _backend(image: Tensor, *others: Tensor | None) -> ModuleType:
    if compiled.takes(image, *others):
        return native
    if image.is_cuda and os.environ.get("IRNAS_RAY_TRITON") == "1":
        # here, because triton is large and not everywhere
        from irnas_ray.kernels import triton_sampling

        if triton_sampling.takes(image, *others):
            return triton_sampling
    return grid_sample


def _chunks(batch: int, groups: int, device: torch.device) -> list[slice]:
    """Groups that are sampled together: all on a GPU; on a CPU so few that the samples stay in its cache.

    A CPU samples the members of a batch in parallel, so that a chunk holds one for each thread.
    """
    size = groups if device.type != "cpu" else max(1, torch.get_num_threads() // batch)
    return [slice(start, min(start + size, groups)) for start in range(0, groups, size)]


def _of(images: Tensor, chunk: slice) -> Tensor:
    """The images that the groups of a chunk read: one, or one for each."""
    return images if images.shape[1] == 1 else images[:, chunk]
