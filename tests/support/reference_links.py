"""Where the fused ``SuperNet`` keeps each tensor of the reference: the only part of the tests that knows its layout."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from irnas_ray.networks.operators import PlainOperator
from irnas_ray.networks.supernet import SuperNet

EVERYTHING = slice(None)


@dataclass(frozen=True)
class Link:
    """A parameter or running statistic of the reference, and the rows of the tensor that holds it in the supernet."""

    name: str
    mine: Any
    theirs: Any
    rows: slice


def links_between(reference: Any, net: SuperNet) -> list[Link]:
    """Links for every tensor of a ``ReferenceSuperNet``."""
    links = [Link("alpha", reference.alpha, net.alpha, EVERYTHING), Link("beta", reference.beta, net.beta, EVERYTHING)]
    for name in ("stem", "entry", "head"):
        links += _module(name, getattr(reference, name), getattr(net, name))
    for name, module in reference.f.items():
        layer, source, target = name.split("_")
        links += _module(f"f_{name}", module, net.paths[f"layer{layer}_from{source}_to{target}"])
    for name, module in reference.widen.items():
        layer, target = name.split("_")
        links += _module(f"widen_{name}", module, net.widen[f"layer{layer}_to{target}"])
    for name, cell in reference.cells.items():
        layer, level, *source = name.split("_")
        theirs: Any = net.cells[f"layer{layer}_level{level}" + "".join(f"_from{k}" for k in source)]
        for place, edge in cell.edges.items():
            first, node = map(int, place.split("_to_"))
            destination = node - max(0, first - 1)  # its place among the nodes that read this source
            for kind, operation in zip(cell.operators, edge, strict=True):
                label = f"cell_{name}.{place}.{kind}"
                links += operator_links(label, kind, operation, list(theirs.edges.values())[first], destination)
    return links


def operator_links(name: str, kind: str, mine: Any, mixed: Any, destination: int) -> list[Link]:
    """Links of one operator of one edge, whose tensors are rows of those of the fused operator."""
    if kind == "skip" and mixed.skip_norm is not None:
        return _module(name, mine, mixed.skip_norm)
    if kind in ("skip", "none"):
        return []
    width, theirs = mixed.width, mixed.operators[kind]
    rows = _block(destination, width)
    links = _module(f"{name}.norm", mine[-1], mixed.norms[kind], rows)
    if isinstance(theirs, PlainOperator):
        return links + _module(f"{name}.edge", mine[1], theirs.edges[destination])
    if kind == "def":
        links += _module(f"{name}.predictor", mine[1].predictor, theirs.predictor, _block(destination, 27))
        return links + _module(f"{name}.convolution", mine[1].convolution, theirs.convolution, rows)
    if kind != "sep":
        return links + _module(f"{name}.convolution", mine[1], theirs.convolution, rows)
    links += _module(f"{name}.depthwise", mine[1], theirs.depthwise, rows)
    links += _module(f"{name}.pointwise", mine[2], theirs.pointwise, rows)
    for repeat, pair in enumerate(theirs.repeats, start=1):
        # mine: activation, depthwise, pointwise, norm, and again; theirs: norm, activation, depthwise, pointwise
        for position, layer in ((-1, pair[0]), (1, pair[2]), (2, pair[3])):
            links += _module(f"{name}.{4 * repeat + position}", mine[4 * repeat + position], layer, rows)
    return links


def _block(index: int, width: int) -> slice:
    return slice(index * width, (index + 1) * width)


def _module(name: str, mine: nn.Module, theirs: nn.Module, rows: slice = EVERYTHING) -> list[Link]:
    there = theirs.state_dict(keep_vars=True)
    return [
        Link(f"{name}.{key}", tensor, there[key], rows)
        for key, tensor in mine.state_dict(keep_vars=True).items()
        if not key.endswith("num_batches_tracked")
    ]
