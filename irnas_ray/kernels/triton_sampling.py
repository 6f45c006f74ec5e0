"""Sampled products through Triton: for float32 and float64 on a GPU, where the environment has ``IRNAS_RAY_TRITON=1``.

``grid_sample`` gathers channel by channel; here a pixel's channels lie side by side and are read together, as
``native.c`` does on a CPU. Nobody has measured it on a GPU yet, so that it is used only on request.

Outputs and the gradients of offsets, mask and kernel are the same in every run, as far as ``torch.bmm`` is. The image's
gradient is summed by atomic additions in the order in which they arrive, so that its last bits vary. After
``torch.use_deterministic_algorithms(True)`` the work is left to ``grid_sample``, whose gradient torch then refuses.
"""

import math
from typing import Any, no_type_check

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from irnas_ray.kernels.geometry import Geometry, tap_positions
from irnas_ray.kernels.grid_sample import Gradients
from irnas_ray.kernels.native import gradient_of_kernels, kernels_by_tap

try:
    import triton
    import triton.language as tl
except ImportError as error:
    raise ImportError("IRNAS_RAY_TRITON=1: triton cannot be imported; install it, or leave the variable out") from error

#: Values of samples that one program computes; eight for each of the 128 threads of a program.
VALUES = 1024
#: Channels are filled up to a multiple of this many, so that each pixel begins where a thread can read four at once.
ALIGNED = 4

#: What varies from image to image, and shall not be compiled in.
SIZES = ["sharing", "taps", "height", "width", "outputs", "out_width"]


def takes(*tensors: Tensor | None) -> bool:
    """Whether this module can be used: all tensors are float32 or float64 and on a GPU, and runs may differ."""
    if torch.are_deterministic_algorithms_enabled():
        return False
    return all(tensor is None or _readable(tensor) for tensor in tensors)


def _readable(tensor: Tensor) -> bool:
    # a negated view, as the imaginary part of a conjugate is one, holds the values with the other sign
    dense = tensor.layout == torch.strided and tensor.device.type == "cuda" and not tensor.is_neg()
    return dense and tensor.dtype in (torch.float32, torch.float64)


def prepare(image: Float[Tensor, "b g c h w"]) -> Float[Tensor, "b g h w c2"]:
    """The image with its channels last, their number a multiple of ``ALIGNED``."""
    return F.pad(image.permute(0, 1, 3, 4, 2), (0, -image.shape[2] % ALIGNED)).contiguous()


def unprepare(gradient: Float[Tensor, "b g h w c2"], image: Float[Tensor, "b g c h w"]) -> Float[Tensor, "b g c h w"]:
    """The gradient of the image from that of the prepared one."""
    return gradient[..., : image.shape[2]].permute(0, 1, 4, 2, 3).contiguous()


def product(
    image: Float[Tensor, "b _ h w c2"],
    offset: Float[Tensor, "b g taps 2 ho wo"],
    mask: Float[Tensor, "b g taps ho wo"] | None,
    weight: Float[Tensor, "g o columns"],
    geometry: Geometry,
) -> Float[Tensor, "b g o ho wo"]:
    """Kernel times masked samples."""
    split = offset.shape[:2]
    samples = _columns(image, offset, geometry)
    _launch(_sample, image, offset, mask, geometry, samples)
    output = torch.bmm(kernels_by_tap(weight, image, geometry, split[0]), samples.transpose(1, 2))
    return output.unflatten(2, geometry.size).unflatten(0, split)


def gradients(
    image: Float[Tensor, "b _ h w c2"],
    offset: Float[Tensor, "b g taps 2 ho wo"],
    mask: Float[Tensor, "b g taps ho wo"] | None,
    weight: Float[Tensor, "g o columns"],
    gradient: Float[Tensor, "b g o ho wo"],
    geometry: Geometry,
    want_weight: bool,
) -> Gradients:
    """Derivatives of ``product``; that of an image which all groups read is summed over them."""
    outer = gradient.flatten(0, 1).flatten(2)
    into_samples = torch.bmm(outer.transpose(1, 2), kernels_by_tap(weight, image, geometry, len(image)))
    samples = _columns(image, offset, geometry) if want_weight else None
    into_image = torch.zeros_like(image, memory_format=torch.contiguous_format)
    into_offset = torch.empty_like(offset, memory_format=torch.contiguous_format)
    into_mask = None if mask is None else torch.empty_like(mask, memory_format=torch.contiguous_format)
    _launch(_differentiate, image, offset, mask, geometry, into_samples, into_image, into_offset, into_mask, samples)
    into_weight = None if samples is None else gradient_of_kernels(outer, samples, weight, geometry)
    return Gradients(into_image, into_offset, into_mask, into_weight)


def _columns(
    image: Float[Tensor, "b _ h w c2"], offset: Float[Tensor, "b g taps 2 ho wo"], geometry: Geometry
) -> Float[Tensor, "n outputs columns"]:
    """Room for the samples of all taps, a pixel's channels side by side."""
    items, outputs = math.prod(offset.shape[:2]), math.prod(geometry.size)
    return image.new_empty(items, outputs, geometry.taps * image.shape[4])


def _launch(
    kernel: Any, image: Tensor, offset: Tensor, mask: Tensor | None, geometry: Geometry, *tensors: Tensor | None
) -> None:
    """Run a kernel, one program for each item, tap and block of outputs."""
    batch, groups = offset.shape[:2]
    sharing = groups if image.shape[1] == 1 else 1
    height, width, channels = image.shape[2:]
    outputs = math.prod(geometry.size)
    padded = triton.next_power_of_2(channels)
    block = max(1, VALUES // padded)
    places = [tap_positions(geometry, axis, image.dtype, image.device) for axis in (0, 1)]
    inputs = [image.contiguous(), *places, offset.contiguous(), None if mask is None else mask.contiguous()]
    sizes = (sharing, geometry.taps, height, width, outputs, geometry.size[1])
    programs = batch * groups * geometry.taps * triton.cdiv(outputs, block)
    compiled = {"CHANNELS": channels, "PADDED": padded, "BLOCK": block}
    with torch.cuda.device_of(image):  # Triton launches on the current device, whatever the tensors are on
        kernel[(programs,)](*inputs, *tensors, *sizes, **compiled, enable_fp_fusion=True)


@triton.jit
@no_type_check
def _job(taps, outputs, BLOCK: tl.constexpr):
    """What this program treats: an item and tap as one number, the item, and the block's outputs."""
    # taps vary fastest: those of one block read almost the same pixels
    program = tl.program_id(0).to(tl.int64)
    blocks = tl.cdiv(outputs, BLOCK)
    item, block = program // (taps * blocks), (program // taps % blocks).to(tl.int32)
    return item, (program % taps).to(tl.int32), block * BLOCK + tl.arange(0, BLOCK)


@triton.jit
@no_type_check
def _position(places, offset, length, there):
    """Where samples lie along one axis; what is far outside comes to where both neighbours are just outside."""
    position = tl.load(places, mask=there, other=0) + tl.load(offset, mask=there, other=0)
    # no minimum and maximum: what is not a number stays so
    return tl.where(position < -1, -2, tl.where(position > length, length, position))


@triton.jit
@no_type_check
def _positions(rows, columns, offset, item, tap, taps, height, width, outputs, out_width, place, there):
    moves = offset + (item * taps + tap) * 2 * outputs + place
    y = _position(rows + tap * (outputs // out_width) + place // out_width, moves, height, there)
    x = _position(columns + tap * out_width + place % out_width, moves + outputs, width, there)
    return y, x


@triton.jit
@no_type_check
def _neighbour(y, x, height, width, there, DOWN: tl.constexpr, RIGHT: tl.constexpr):
    """One of the four pixels around samples: its index, whether there is one, and its weight along both axes."""
    top, left = tl.floor(y), tl.floor(x)
    row, column = top + DOWN, left + RIGHT
    wy = y - top if DOWN else 1 - (y - top)
    wx = x - left if RIGHT else 1 - (x - left)
    # compared before they are whole numbers, because what is not a number would become one
    inside = there & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    pixel = tl.where(inside, row, 0).to(tl.int64) * width + tl.where(inside, column, 0).to(tl.int64)
    return pixel, inside, wy, wx


@triton.jit(do_not_specialize=SIZES)
@no_type_check
def _sample(
    image, rows, columns, offset, mask, samples, sharing, taps, height, width, outputs, out_width,
    CHANNELS: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """samples[item, output, tap, channel], times the mask if there is one."""
    item, tap, place = _job(taps, outputs, BLOCK)
    there, channel = place < outputs, tl.arange(0, PADDED)
    y, x = _positions(rows, columns, offset, item, tap, taps, height, width, outputs, out_width, place, there)
    image += item // sharing * height * width * CHANNELS
    total = tl.zeros([BLOCK, PADDED], y.dtype)
    for corner in tl.static_range(4):
        pixel, inside, wy, wx = _neighbour(y, x, height, width, there, corner // 2, corner % 2)
        wanted = inside[:, None] & (channel < CHANNELS)[None, :]
        values = tl.load(image + (pixel * CHANNELS)[:, None] + channel[None, :], mask=wanted, other=0)
        total += (wy * wx)[:, None] * values
    if mask is not None:
        total *= tl.load(mask + (item * taps + tap) * outputs + place, mask=there, other=0)[:, None]
    sample = ((item * outputs + place) * taps + tap) * CHANNELS
    written = there[:, None] & (channel < CHANNELS)[None, :]
    tl.store(samples + sample[:, None] + channel[None, :], total, mask=written)


@triton.jit(do_not_specialize=SIZES)
@no_type_check
def _differentiate(
    image, rows, columns, offset, mask, into_samples, into_image, into_offset, into_mask, samples,
    sharing, taps, height, width, outputs, out_width,
    CHANNELS: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Derivatives of the sum of samples * into_samples, added to into_image; and the samples if asked for."""
    item, tap, place = _job(taps, outputs, BLOCK)
    there, channel = place < outputs, tl.arange(0, PADDED)
    y, x = _positions(rows, columns, offset, item, tap, taps, height, width, outputs, out_width, place, there)
    start = item // sharing * height * width * CHANNELS
    one_tap = (item * taps + tap) * outputs + place
    sample = (((item * outputs + place) * taps + tap) * CHANNELS)[:, None] + channel[None, :]
    written = there[:, None] & (channel < CHANNELS)[None, :]
    gradient = tl.load(into_samples + sample, mask=written, other=0)
    factor = tl.full([BLOCK], 1, y.dtype)
    if mask is not None:
        factor = tl.load(mask + one_tap, mask=there, other=0)
    total = tl.zeros([BLOCK, PADDED], y.dtype)
    by_y, by_x, by_mask = tl.zeros([BLOCK], y.dtype), tl.zeros([BLOCK], y.dtype), tl.zeros([BLOCK], y.dtype)
    for corner in tl.static_range(4):
        pixel, inside, wy, wx = _neighbour(y, x, height, width, there, corner // 2, corner % 2)
        wanted = inside[:, None] & (channel < CHANNELS)[None, :]
        read = start + (pixel * CHANNELS)[:, None] + channel[None, :]
        values = tl.load(image + read, mask=wanted, other=0)
        along = tl.sum(gradient * values, axis=1)
        by_y += wx * along if corner // 2 else -wx * along
        by_x += wy * along if corner % 2 else -wy * along
        by_mask += wy * wx * along
        total += (wy * wx)[:, None] * values
        # nothing waits for the sums before the kernel ends
        tl.atomic_add(into_image + read, (wy * wx * factor)[:, None] * gradient, mask=wanted, sem="relaxed")
    moves = into_offset + (item * taps + tap) * 2 * outputs + place
    tl.store(moves, factor * by_y, mask=there)
    tl.store(moves + outputs, factor * by_x, mask=there)
    if mask is not None:
        tl.store(into_mask + one_tap, by_mask, mask=there)
    if samples is not None:
        tl.store(samples + sample, factor[:, None] * total, mask=written)
