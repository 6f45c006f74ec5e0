"""What a network costs where it is used: its size, its arithmetic, and the time that it takes."""

import statistics
import time

import torch
from torch import nn

#: Side in pixels of the image that is timed: a trial on a CPU should not wait, and a GPU have enough to do.
TIMED_SIDE = {"cpu": 128, "cuda": 512}
#: How often it is timed, after a first call that is not counted.
TIMED_CALLS = 3


def seconds_per_megapixel(network: nn.Module, channels: int, device: torch.device) -> float:
    """Time that a network takes for a million pixels on a device: the median of a few calls on one small image.

    The network is moved to the device and left in evaluation mode.
    """
    network.to(device).eval()
    side = TIMED_SIDE[device.type]
    image = torch.zeros(1, channels, side, side, device=device)
    times = []
    with torch.inference_mode():
        for _ in range(TIMED_CALLS + 1):
            _wait(device)
            start = time.perf_counter()
            network(image)
            _wait(device)
            times.append(time.perf_counter() - start)
    return statistics.median(times[1:]) / side**2 * 1e6


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
