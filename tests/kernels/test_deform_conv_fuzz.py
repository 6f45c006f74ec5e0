"""deform_conv2d on whatever fits together and on what does not; under a sanitiser too, as CONTRIBUTING.md says."""

import math
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from reference_deformable import plain_deform_conv2d
from test_deform_conv import Geometry, with_gradients
from test_deform_conv_inputs import LAYOUTS

from irnas_ray.kernels import compiled, grid_sample, native, sampled_product
from irnas_ray.kernels.deform_conv import deform_conv2d

TYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
NAMES = ["input", "offset", "weight", "bias", "mask"]
layouts = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(sorted(LAYOUTS)))


def pairs(least: int, most: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(least, most), st.integers(least, most))


@st.composite
def geometries(draw) -> Geometry:
    groups, offset_groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    geometry = Geometry(
        batch=draw(st.integers(0, 3)),
        channels=math.lcm(groups, offset_groups) * draw(st.sampled_from([1, 2, 3, 9])),
        outputs=groups * draw(st.integers(1, 3)),
        image=draw(pairs(1, 9)),
        kernel=draw(pairs(1, 3)),
        stride=draw(pairs(1, 3)),
        padding=draw(pairs(0, 3)),
        dilation=draw(pairs(1, 3)),
        groups=groups,
        offset_groups=offset_groups,
        spread=draw(st.sampled_from([0.0, 1.0, 20.0])),
    )
    assume(min(geometry.size) >= 1)
    return geometry


def drawn(geometry: Geometry, dtype: torch.dtype, seed: int, without: set[str], laid_out: dict[str, str]) -> dict:
    """Tensors whose positions are multiples of 1/8, so that every type finds them on the same side of a pixel."""
    tensors = {key: value for key, value in geometry.tensors(torch.float32, seed).items() if key not in without}
    tensors["offset"] = (8 * tensors["offset"]).round().clamp(-100, 100) / 8
    tensors = {key: value.to(dtype) for key, value in tensors.items()}
    return tensors | {key: LAYOUTS[name](tensors[key]) for key, name in laid_out.items() if key in tensors}


@pytest.fixture(autouse=True)
def no_kept_buffers(monkeypatch):
    """Every call gets memory of its own and a few rows at a time, so that what is read beyond it is not a buffer's."""
    monkeypatch.setattr(native._Call, "room_for_samples", fresh_room(native._Call.room_for_samples))
    monkeypatch.setattr(native, "BLOCK_BYTES", 4096)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def fresh_room(room: Any) -> Any:
    def fresh(*arguments: Any) -> torch.Tensor:
        native._rooms.__dict__.clear()
        return room(*arguments)

    return fresh


same_buffers = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@same_buffers
@given(
    geometries(),
    st.sampled_from(TYPES),
    st.integers(0, 1000),
    st.sets(st.sampled_from(["bias", "mask"])),
    layouts,
    st.sampled_from([1, 3]),
)
def test_what_fits_equals_the_definition(geometry, dtype, seed, without, laid_out, threads):
    torch.set_num_threads(threads)
    tensors = drawn(geometry, dtype, seed, without, laid_out)
    mine = with_gradients(deform_conv2d, tensors, geometry.keywords)
    wide = {key: value.to(torch.float64, memory_format=torch.contiguous_format) for key, value in tensors.items()}
    expected = with_gradients(plain_deform_conv2d, wide, geometry.keywords)
    half = dtype in (torch.float16, torch.bfloat16)
    for key, value in expected.items():
        assert mine[key].dtype == dtype and mine[key].shape == value.shape
        # half precision rounds the incoming gradients, whose errors add up to a share of the largest value
        scale = float(value.abs().max()) if value.numel() else 0.0
        tolerance = {torch.float64: 1e-9, torch.float32: 1e-4}.get(dtype, 0.05)
        torch.testing.assert_close(
            mine[key].double(), value, rtol=tolerance, atol=tolerance * max(1.0, scale if half else 0.0)
        )


@same_buffers
@given(geometries(), st.integers(0, 1000), st.lists(st.sampled_from(TYPES), min_size=5, max_size=5), layouts)
def test_types_are_refused_or_one(geometry, seed, types, laid_out):
    tensors = drawn(geometry, torch.float32, seed, set(), laid_out)
    tensors = {key: value.to(dtype) for (key, value), dtype in zip(tensors.items(), types, strict=True)}
    if len(set(types)) == 1:
        assert deform_conv2d(**tensors, **geometry.keywords).dtype == types[0]
        return
    with pytest.raises(ValueError, match=r"^(offset|weight|bias|mask): torch\.\w+, but input is torch\.\w+"):
        deform_conv2d(**tensors, **geometry.keywords)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(geometries(), st.sampled_from(NAMES), st.integers(0, 3), st.sampled_from([-100, -1, 1, 7]), st.booleans())
def test_shapes_are_refused_or_defined(unannotated, geometry, name, axis, change, single):
    dtype = torch.float32 if single else torch.float64
    tensors = drawn(geometry, dtype, 0, set(), {})
    shape = list(tensors[name].shape)
    shape[axis % len(shape)] = max(0, shape[axis % len(shape)] + change)
    tensors[name] = torch.ones(shape, dtype=dtype)
    try:
        output = deform_conv2d(**tensors, **geometry.keywords)
    except ValueError as error:
        assert str(error).startswith(tuple(f"{name}: " for name in NAMES))
        return
    expected = plain_deform_conv2d(**tensors, **geometry.keywords)
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not compiled.available, reason="the package was installed without a C compiler")
@same_buffers
@given(
    geometries(),
    st.integers(0, 1000),
    st.lists(st.sampled_from([math.nan, math.inf, -math.inf, 3e38, -3e38, 2.0**31, -1.0]), min_size=1, max_size=5),
    st.booleans(),
)
def test_no_position_is_read_outside_the_image(geometry, seed, bad, mask):
    """Both forms agree on positions of every kind; NaN is equal to NaN."""
    geometry = replace(geometry, batch=max(1, geometry.batch))
    tensors = drawn(geometry, torch.float32, seed, set() if mask else {"mask"}, {})
    places = torch.randint(tensors["offset"].numel(), (len(bad),), generator=torch.Generator().manual_seed(seed))
    tensors["offset"].view(-1)[places] = torch.tensor(bad)
    results = []
    for backend in (native, grid_sample):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sampled_product, "_backend", lambda *tensors, backend=backend: backend)
            results.append(with_gradients(deform_conv2d, tensors, geometry.keywords))
    mine, expected = results
    for key, value in expected.items():
        if key != "offset":  # at whole positions grid_sample in single precision chooses a side of its own
            torch.testing.assert_close(mine[key], value, rtol=1e-3, atol=1e-3, equal_nan=True)
    assert torch.equal(mine["offset"].isnan(), expected["offset"].isnan())
