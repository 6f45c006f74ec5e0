"""A final whose workers misbehave once each: one takes another genotype for the same, one is killed in a step."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import nn

from irnas_ray.genotypes.published import load_genotype
from irnas_ray.settings.study import StudyConfig
from irnas_ray.study.candidates import Candidate


class Precise(Candidate):
    """A candidate with weights of double precision.

    The rounding of single precision differs between one process and several, and Adam's first steps, which divide a
    gradient by its own size, make of it 1e-2 within a few steps; here as little as 1e-12 is left of it.
    """

    def make_network(self, settings: StudyConfig) -> nn.Module:
        network = super().make_network(settings).double()
        network.register_forward_pre_hook(lambda module, inputs: tuple(image.double() for image in inputs))
        return network


@dataclass(frozen=True)
class Unlucky(Precise):
    """A candidate that notes every training step of its first worker in a file, and hits its second worker twice."""

    notes: str = ""
    #: The training step, counted in one life of a worker, in which the second worker is killed.
    killed_in: int = 0

    def make_network(self, settings: StudyConfig) -> nn.Module:
        network = super().make_network(settings)
        rank = _rank()
        if rank is None:
            return network
        self._note(f"network {rank}")
        steps = 0

        def before_step(module: nn.Module, inputs: Any) -> None:
            nonlocal steps
            if not module.training:
                return
            steps += 1
            if rank == 0:
                self._note("step")
            elif steps == self.killed_in and self._once("killed"):
                # Ray Train takes notice of a checkpoint within seconds
                time.sleep(5)
                os.kill(os.getpid(), signal.SIGKILL)

        network.register_forward_pre_hook(before_step)
        return network

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name == "genotype" and _rank() == 1 and self._once("confused"):
            return load_genotype("irnas_derain")
        return value

    def _note(self, line: str) -> None:
        with open(Path(self.notes) / "lines", "a") as file:
            file.write(f"{line}\n")

    def _once(self, what: str) -> bool:
        try:
            (Path(self.notes) / what).touch(exist_ok=False)
        except FileExistsError:
            return False
        self._note(what)
        return True


def _rank() -> int | None:
    return dist.get_rank() if dist.is_initialized() else None
