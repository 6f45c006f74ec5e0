"""Sampled products through ``native.c``: for float32 on a CPU.

Several times faster than ``grid_sample``, which gathers channel by channel: here a pixel's channels lie side by side.
"""

import ctypes
import math
import threading

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from irnas_ray.kernels.compiled import call, pointer
from irnas_ray.kernels.geometry import Geometry, tap_positions
from irnas_ray.kernels.grid_sample import Gradients

BLOCK = 8  # as in native.c
#: Bytes of samples that are made before they are multiplied by the kernel.
BLOCK_BYTES = 2**22


#: Large buffers that are kept, because memory that a system hands out anew costs more than what is written there.
_rooms = threading.local()


def prepare(image: Float[Tensor, "b g c h w"]) -> Float[Tensor, "b g h2 w2 c2"]:
    """The image with its channels last, their number a multiple of ``BLOCK``, and zeros around it."""
    channels, height, width = image.shape[2:]
    prepared = image.new_zeros(*image.shape[:2], height + 2, width + 2, channels + -channels % BLOCK)
    prepared[:, :, 1:-1, 1:-1, :channels] = image.permute(0, 1, 3, 4, 2)
    return prepared


def unprepare(gradient: Float[Tensor, "b g h2 w2 c2"], image: Float[Tensor, "b g c h w"]) -> Float[Tensor, "b g c h w"]:
    """The gradient of the image from that of the prepared one."""
    return gradient[:, :, 1:-1, 1:-1, : image.shape[2]].permute(0, 1, 4, 2, 3).contiguous()


def product(
    image: Float[Tensor, "b _ h2 w2 c2"],
    offset: Float[Tensor, "b g taps 2 ho wo"],
    mask: Float[Tensor, "b g taps ho wo"] | None,
    weight: Float[Tensor, "g o columns"],
    geometry: Geometry,
) -> Float[Tensor, "b g o ho wo"]:
    """Kernel times masked samples."""
    batch, groups = offset.shape[:2]
    call = _Call(image, offset, mask, geometry)
    kernels = kernels_by_tap(weight, image, geometry, batch)
    output = image.new_empty(batch * groups, weight.shape[1], *geometry.size)
    for rows in call.blocks_of_rows():
        samples = call.room_for_samples("samples", rows)
        call("sample", samples)
        output[:, :, rows] = torch.bmm(kernels, samples.transpose(1, 2)).unflatten(2, (-1, geometry.size[1]))
    return output.unflatten(0, (batch, groups))


def gradients(
    image: Float[Tensor, "b _ h2 w2 c2"],
    offset: Float[Tensor, "b g taps 2 ho wo"],
    mask: Float[Tensor, "b g taps ho wo"] | None,
    weight: Float[Tensor, "g o columns"],
    gradient: Float[Tensor, "b g o ho wo"],
    geometry: Geometry,
    want_weight: bool,
) -> Gradients:
    """Derivatives of ``product``; that of the image for every group."""
    batch, groups = offset.shape[:2]
    outer = gradient.flatten(0, 1).flatten(2)
    call = _Call(image, offset, mask, geometry)
    into_samples = call.room_for_samples("gradients")
    torch.bmm(outer.transpose(1, 2), kernels_by_tap(weight, image, geometry, batch), out=into_samples)
    into_image = image.new_empty(batch, groups, call.parts, *image.shape[2:])
    into_offset = torch.empty_like(call.offset)
    into_mask = None if call.mask is None else torch.empty_like(call.mask)
    samples = call.room_for_samples("samples") if want_weight else None
    call("differentiate", into_samples, into_image, into_offset, into_mask, samples)
    into_weight = None if samples is None else gradient_of_kernels(outer, samples, weight, geometry)
    return Gradients(into_image.sum(dim=2), into_offset, into_mask, into_weight)


def kernels_by_tap(weight: Tensor, image: Tensor, geometry: Geometry, batch: int) -> Float[Tensor, "n o columns"]:
    """Kernels whose columns run over the taps, then over the channels and the zeros beside them."""
    kernels = weight.unflatten(2, (-1, geometry.taps)).transpose(2, 3)
    kernels = F.pad(kernels, (0, image.shape[-1] - kernels.shape[-1])).flatten(2)
    return kernels.expand(batch, *kernels.shape).flatten(0, 1)


def gradient_of_kernels(
    outer: Float[Tensor, "n o outputs"],
    samples: Float[Tensor, "n outputs columns"],
    weight: Float[Tensor, "g o c_taps"],
    geometry: Geometry,
) -> Float[Tensor, "b g o c_taps"]:
    """The gradient of the kernel of every member of a batch, without the zeros beside it and in its own order."""
    by_tap = torch.bmm(outer, samples).unflatten(2, (geometry.taps, -1))
    channels = weight.shape[2] // geometry.taps
    return by_tap[..., :channels].transpose(2, 3).flatten(2).unflatten(0, (-1, len(weight)))


class _Shape(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            "items",
            "groups",
            "channels",
            "height",
            "width",
            "taps",
            "rows",
            "columns",
            "parts",
            "first",
            "last",
        )
    ]


class _Call:
    """The arguments that both functions of ``native.c`` begin with."""

    def __init__(self, image: Tensor, offset: Tensor, mask: Tensor | None, geometry: Geometry) -> None:
        batch, groups = offset.shape[:2]
        self.image, self.offset = image.contiguous(), offset.contiguous()
        self.mask = None if mask is None else mask.contiguous()
        self.positions = [tap_positions(geometry, axis, torch.float32, image.device) for axis in (0, 1)]
        items = batch * groups
        self.parts = min(geometry.size[0], -(-torch.get_num_threads() // items))
        own_images = image.shape[1] > 1
        height, width, channels = image.shape[2] - 2, image.shape[3] - 2, image.shape[4]
        self.shape = _Shape(
            items, 1 if own_images else groups, channels, height, width, geometry.taps, *geometry.size, self.parts
        )

    def blocks_of_rows(self) -> list[slice]:
        """The output's rows in blocks so small that their samples stay in the processor's cache."""
        shape = self.shape
        bytes_of_row = 4 * shape.items * shape.columns * shape.taps * shape.channels
        count = max(1, min(shape.rows, BLOCK_BYTES // bytes_of_row))
        return [slice(start, min(start + count, shape.rows)) for start in range(0, shape.rows, count)]

    def room_for_samples(self, name: str, rows: slice | None = None) -> Float[Tensor, "n outputs columns"]:
        """Room for the samples of all taps in some rows, which are those that the next calls treat.

        A later call of this thread for the same name takes the room over.
        """
        self.shape.first, self.shape.last = (rows.start, rows.stop) if rows else (0, self.shape.rows)
        outputs = (self.shape.last - self.shape.first) * self.shape.columns
        shape = (self.shape.items, outputs, self.shape.taps * self.shape.channels)
        room = getattr(_rooms, name, None)
        if room is None or room.numel() < math.prod(shape):
            with torch.inference_mode(False):  # else it could not be written to outside that mode later
                room = torch.empty(math.prod(shape), dtype=torch.float32)
            setattr(_rooms, name, room)
        return room[: math.prod(shape)].view(shape)

    def __call__(self, name: str, *tensors: Tensor | None) -> None:
        s = self.shape
        if s.channels % BLOCK or not 0 <= s.first < s.last <= s.rows or s.parts < 1:
            raise ValueError(f"{name}: {s.channels} channels, rows {s.first} to {s.last} of {s.rows}, {s.parts} parts")
        pixels, outputs = (s.height + 2) * (s.width + 2) * s.channels, s.items * s.taps * s.rows * s.columns
        samples = s.items * (s.last - s.first) * s.columns * s.taps * s.channels
        sizes = [s.items // s.groups * pixels, s.taps * s.rows, s.taps * s.columns, 2 * outputs, outputs, samples]
        sizes += [s.items * s.parts * pixels, 2 * outputs, outputs, samples]
        arguments = [self.image, *self.positions, self.offset, self.mask, *tensors]
        pointers = [pointer(tensor, size) for tensor, size in zip(arguments, sizes, strict=False)]
        call(name, self.shape, *pointers)
