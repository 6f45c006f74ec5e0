"""How much GPU memory a search trial takes at most, measured with one step of the largest configuration."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from irnas_ray.cluster.placement import AUTO, gpu_share, nodes
from irnas_ray.genotypes.cell import Edge
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.hpo.search_space import SearchSpace
from irnas_ray.networks.building import make_encoding, make_supernet
from irnas_ray.networks.costs import size_of
from irnas_ray.networks.derived import count_parameters
from irnas_ray.search.bilevel import bilevel_search
from irnas_ray.settings.study import StudyConfig, with_values
from irnas_ray.study.trial import TrialData, candidate_trainings, search_parts, short_training
from irnas_ray.study.worker import prepare_device

GIB = 2**30
#: Seconds without a measurement after which the user is told why, and after which it is given up.
TOLD, PATIENCE = 30, 600
#: What a trial is given beyond the measured peak: other seeds and cuDNN's choices vary by a few percent.
MARGIN = 1.1


@dataclass(frozen=True)
class Measurement:
    """Bytes that a trial needed on a GPU, infinite if it ran out of memory, and bytes that the GPU has."""

    needed: float
    total: float


#: Measures one configuration on each kind of GPU that the cluster has; empty if none can be used.
Measure = Callable[[StudyConfig, TrialData], list[Measurement]]


def search_resources(
    config: StudyConfig, data: TrialData, resources: dict[str, float], measure: Measure | None = None
) -> dict[str, float]:
    """The resources of a search trial: those given, or with ``cluster.gpus_per_trial=auto`` the measured part of a GPU.

    As many trials share a GPU as the smallest of them holds; without a GPU ``auto`` means none.
    """
    if config.cluster.gpus_per_trial != AUTO or not resources["gpu"]:
        return resources
    print("cluster.gpus_per_trial=auto: measures the memory of one step of the largest configuration", flush=True)
    found = (measure or measure_on_gpus)(with_values(config, largest(config)), data)
    if not found:
        print("no worker can use a GPU through CUDA, so nothing was measured: one GPU for each trial", flush=True)
        return resources
    needed = MARGIN * max(one.needed for one in found)
    smallest = min(one.total for one in found)
    share = gpu_share(needed, [smallest])
    if needed > smallest:
        size = f"{needed / GIB:.1f} GiB" if math.isfinite(needed) else "more"
        print(
            f"the largest configuration needs {size}, the smallest GPU has {smallest / GIB:.1f} GiB: one GPU for each "
            "trial; lower search.batch or set architecture.recompute=true if trials run out of memory",
            flush=True,
        )
    else:
        text = f"a trial needs up to {needed / GIB:.1f} of {smallest / GIB:.1f} GiB"
        print(f"{text}: {math.floor(1 / share)} share a GPU, gpus_per_trial={share:g}", flush=True)
    return resources | {"gpu": share}


def largest(config: StudyConfig) -> dict[str, Any]:
    """The configuration of the domains that needs most memory, as dotted keys.

    Memory grows with the pixels that the cells see and the supernet's channels, nodes and paths, which the parameters
    follow.
    """
    space = SearchSpace.of(config)

    def size(values: Mapping[str, Any]) -> tuple[float, bool]:
        settings = with_values(config, values)
        own = settings.search if settings.search.supernet else settings.final
        pixels = own.batch * (own.crop / settings.architecture.unshuffle) ** 2
        return pixels * _parameters(settings), not settings.architecture.recompute

    return space.greatest(size)


def _parameters(settings: StudyConfig) -> int:
    if not settings.search.supernet:
        return max(size_of(genotype, settings)["parameters"] for genotype in _extremes(settings))
    with torch.device("meta"):
        return count_parameters(make_supernet(settings))


def _extremes(settings: StudyConfig) -> list[Genotype]:
    """Genotypes of one operator throughout, as wide as the space allows."""
    space = make_encoding(settings)
    widest = space.multipliers.index(max(space.multipliers))
    levels = tuple(min(layer + 1, widest) for layer in range(space.layers))
    cells = [tuple((Edge(0, name), Edge(1, name)) for _ in range(space.nodes)) for name in space.operators]
    return [Genotype((cell,) * space.cells, levels, space.multipliers, space.macro) for cell in cells]


def measure_on_gpus(config: StudyConfig, data: TrialData) -> list[Measurement]:
    """Run one step on a GPU of each kind, side by side; each waits for a whole GPU and the CPUs of a trial.

    Raises ValueError where one of them has not ended after ten minutes.
    """
    kinds: dict[tuple[str, ...], str] = {}
    for node in ray.nodes():
        if node["Alive"] and node["Resources"].get("GPU", 0) >= 1:
            kind = tuple(sorted(name for name in node["Resources"] if name.startswith("accelerator_type")))
            kinds.setdefault(kind, node["NodeID"])
    asked = [
        _measure_step.options(
            num_cpus=config.cluster.cpus_per_trial,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        ).remote(config, data)
        for node in kinds.values()
    ]
    return [found for found in _answers(asked, config.cluster.cpus_per_trial) if found is not None]


def _answers(asked: list[ray.ObjectRef], cpus: int) -> list[Measurement | None]:
    _, left = ray.wait(asked, num_returns=len(asked), timeout=TOLD)
    if left:
        print(
            f"cluster.gpus_per_trial=auto: nothing measured after {TOLD} s; a whole GPU and {_cpus(cpus)} are waited "
            f"for, or in use by now ({'; '.join(map(str, nodes()))})",
            flush=True,
        )
        _, left = ray.wait(asked, num_returns=len(asked), timeout=PATIENCE - TOLD)
    for step in left:
        ray.cancel(step, force=True)
    if left:
        raise ValueError(
            f"cluster.gpus_per_trial: auto needs a whole GPU and {_cpus(cpus)} for a moment, and could not measure "
            f"within {PATIENCE / 60:g} minutes ({'; '.join(map(str, nodes()))}); wait until other programs give one "
            "back, or say yourself which part of a GPU a trial takes, such as cluster.gpus_per_trial=0.5"
        )
    return ray.get(asked)


def _cpus(number: int) -> str:
    return f"{number} CPU{'s' if number != 1 else ''}"


@ray.remote(num_gpus=1, max_retries=0)
def _measure_step(config: StudyConfig, data: TrialData) -> Measurement | None:
    device = prepare_device(config.cluster.cpus_per_trial)
    if device.type != "cuda":
        return None
    total = torch.cuda.mem_get_info(device)[1]
    try:
        one_step(config, data, device)
    except (torch.OutOfMemoryError, MemoryError):
        return Measurement(math.inf, total)
    free = torch.cuda.mem_get_info(device)[0]
    # the CUDA context, which PyTorch does not count
    beside = total - free - torch.cuda.memory_reserved(device)
    return Measurement(torch.cuda.max_memory_reserved(device) + beside, total)


def one_step(config: StudyConfig, data: TrialData, device: torch.device) -> None:
    """What in a trial takes memory, once: patches, a weight and an architecture step, a validation, a proxy's step."""
    if not config.search.supernet:
        short = with_values(config, {"search.epochs": 1, "search.steps_per_epoch": 1, "search.validate_every": 1})
        for genotype in _extremes(config):
            short_training(genotype, short, data, 0, device).run()
        return
    parts = search_parts(config, data, 0, device)
    found = bilevel_search(*parts, epochs=2, warmup_epochs=1, steps_per_epoch=1, validate_every=2)
    if config.search.proxy_steps:
        candidate_trainings(config, data, device, 0).train(found.genotype, 1)
