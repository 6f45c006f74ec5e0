"""Numbers that say how large a network is: Python's own, whole, and large enough."""

from typing import Any

import numpy as np
import pytest

from irnas_ray.networks.size import check_parameters, whole


@pytest.mark.parametrize("value", [4, np.int64(4), 4.0, np.float32(4)])
def test_whole_numbers_are_those_of_python(value: Any) -> None:
    found = whole("width", value)
    assert found == 4 and type(found) is int


@pytest.mark.parametrize(
    ("value", "message"),
    [
        *[(value, "at least 2") for value in (1, 0, -3, np.int64(1), -(10**400))],
        *[(value, "a whole number is needed") for value in (2.5, float("nan"), float("inf"), True, "4", None, [4])],
    ],
)
def test_other_numbers_are_refused_by_name(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^depth: .*; {message}$"):
        whole("depth", value, 2)


def test_more_parameters_than_a_float_can_say_are_too_many() -> None:
    check_parameters(10**9)
    for least in (10**9 + 10**8, 10**400):
        with pytest.raises(ValueError, match="a network of more than .* parameters; at most 1e.09 are built"):
            check_parameters(least)
