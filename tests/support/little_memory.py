"""A step in a process of its own that gets 32 MiB more than it has, which is too little for it; prints what came of it.

A fork of a process that ran other tests would have their threads' locks and an address space of any size.
"""

import ctypes
import json
import resource
from pathlib import Path

import torch
from torch import nn

from irnas_ray.training.accumulation import Accumulation
from irnas_ray.training.loss import restoration_loss

M_MMAP_THRESHOLD = -3

if __name__ == "__main__":
    # memory goes back to the system at once, so that the limit is about what is in use
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 65536)
    torch.set_num_threads(1)
    network = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1) for _ in range(8)))
    accumulation, optimizer = Accumulation(network, ""), torch.optim.SGD(network.parameters(), lr=0.1)
    batch = (torch.rand(64, 1, 96, 96), torch.rand(64, 1, 96, 96))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 32 * 2**20,) * 2)
    loss = accumulation.backward(lambda x, y, average: restoration_loss(network(x), y, 0.5, average), optimizer, batch)
    print(json.dumps([float(loss), accumulation.micro_batch]))
