"""What a network costs where it is used: its size, its arithmetic, and the time that it takes."""

import statistics
import time

import torch
from torch import nn

#: Side in pixels of the image that is timed, and how often; the first call is not counted.
TIMED_SIDE, TIMED_CALLS = 256, 5


def seconds_per_megapixel(network: nn.Module, channels: int, device: torch.device) -> float:
    """Time that a network takes for a million pixels on a device: the median of a few calls on one small image.

    The network is moved to the device and left in evaluation mode.
    """
    network.to(device).eval()
    image = torch.zeros(1, channels, TIMED_SIDE, TIMED_SIDE, device=device)
    times = []
    with torch.inference_mode():
        for _ in range(TIMED_CALLS + 1):
            _wait(device)
            start = time.perf_counter()
            network(image)
            _wait(device)
            times.append(time.perf_counter() - start)
    return statistics.median(times[1:]) / TIMED_SIDE**2 * 1e6


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
