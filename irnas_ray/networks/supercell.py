"""The cell of the supernet: every node reads both inputs and all earlier nodes through mixed operators (eq. 1-3)."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from irnas_ray.genotypes.cell import Cell
from irnas_ray.genotypes.decoding import edges_of
from irnas_ray.kernels.mixed_batch_norm import normalised_sum, statistics_kept
from irnas_ray.networks.operators import OPERATIONS, Operator, activate, joined


class MixedEdges(nn.Module):
    """All edges that leave one source: the sum over operators of alpha times operator, for each destination (eq. 2).

    They share the activation, and each operator treats all destinations at once (see ``operators``). ``normalised``
    says whether batch normalisation follows the operators; ``normalise_skip`` whether it follows skip as well.
    """

    def __init__(
        self,
        width: int,
        destinations: int,
        operators: Sequence[str],
        activation: str,
        sep_repeats: int,
        normalised: bool = True,
        normalise_skip: bool = False,
    ) -> None:
        super().__init__()
        self.width, self.destinations, self.activation = width, destinations, activation
        norm = partial(nn.BatchNorm2d, affine=False) if normalised else nn.Identity
        self.operators = nn.ModuleDict(
            {
                name: OPERATIONS[name](width, destinations, activation, sep_repeats, norm)
                for name in operators
                if name != "none"
            }
        )
        self.columns = {name: list(operators).index(name) for name in self.operators}
        self.norms = nn.ModuleDict(
            {
                name: nn.BatchNorm2d(destinations * width, affine=False)
                for name in self.operators
                if OPERATIONS[name].normalised and normalised
            }
        )
        #: Remedies of a search: how often the source itself is added to every edge, and the dropout behind skip.
        self.auxiliary, self.skip_dropout = 0.0, 0.0
        self.skip_norm = nn.BatchNorm2d(width, affine=False) if normalise_skip and "skip" in self.operators else None

    def forward(
        self, source: Float[Tensor, "b c h w"], weights: Float[Tensor, "destinations operators"]
    ) -> Float[Tensor, "b destinations c h w"]:
        """Mixed outputs for all destinations; ``weights`` holds their rows of softmax(alpha)."""
        activated = activate(self.activation, source)
        total: Tensor | None = None
        if self.norms:
            outputs = [self._operator(name)(source, activated) for name in self.norms]
            factors = weights[:, [self.columns[name] for name in self.norms]].t()
            norms = [norm for norm in self.norms.values() if isinstance(norm, nn.BatchNorm2d)]
            total = normalised_sum(outputs, factors, norms).unflatten(1, (self.destinations, self.width))
        for name in self.operators:
            if name not in self.norms:
                read = self.skip_norm(source) if name == "skip" and self.skip_norm is not None else source
                plain = self._operator(name)(read, activated).unflatten(1, (-1, self.width))
                if name == "skip" and self.skip_dropout > 0 and self.training:
                    # every edge drops pixels of its own
                    plain = F.dropout(plain.expand(-1, self.destinations, -1, -1, -1), self.skip_dropout)
                factor = weights[:, self.columns[name], None, None, None]
                total = plain * factor if total is None else torch.addcmul(total, plain, factor)
        assert total is not None  # check_operators demands an operator besides `none`
        return total + self.auxiliary * source.unsqueeze(1) if self.auxiliary else total

    def path(self, source: Float[Tensor, "b c h w"], chosen: Mapping[int, str]) -> dict[int, Float[Tensor, "b c h w"]]:
        """Outputs of single operators, destination -> name, each with the weights that it has in the mixture.

        Batch normalisation normalises by the batch itself: running statistics are those of the mixture.
        """
        activated = activate(self.activation, source)
        outputs = {}
        for destination, name in chosen.items():
            output = self._operator(name).single(source, activated, destination)
            if name in self.norms or (name == "skip" and self.skip_norm is not None):
                output = F.batch_norm(output, None, None, training=True)
            outputs[destination] = output
        return outputs

    def _operator(self, name: str) -> Operator:
        operator = self.operators[name]
        assert isinstance(operator, Operator)
        return operator


class SuperCell(nn.Module):
    """A cell whose nodes read both inputs and all earlier nodes through mixed operators (eq. 1-3).

    Without normalisation (``normalised=False``) the nodes are added to the last input instead of being concatenated.
    ``recompute=True`` keeps of every source its features alone for the backward pass, and computes the rest again.
    """

    def __init__(
        self,
        width: int,
        nodes: int,
        operators: Sequence[str],
        activation: str,
        sep_repeats: int,
        recompute: bool = False,
        normalised: bool = True,
        normalise_skip: bool = False,
    ) -> None:
        super().__init__()
        self.nodes, self.recompute = nodes, recompute
        self.join = None if normalised else joined(nodes, width)
        self.destinations = [list(range(max(0, source - 1), nodes)) for source in range(nodes + 1)]
        self.edges = nn.ModuleDict(
            {
                f"from{source}_to{readers[0]}-{readers[-1]}": MixedEdges(
                    width, len(readers), operators, activation, sep_repeats, normalised, normalise_skip
                )
                for source, readers in enumerate(self.destinations)
            }
        )

    def forward(
        self,
        before_last: Float[Tensor, "b c h w"],
        last: Float[Tensor, "b c h w"],
        weights: Float[Tensor, "edges operators"],
    ) -> Float[Tensor, "b out h w"]:
        """The cell's output from h(l-2), h(l-1) and softmax(alpha): its nodes, concatenated or joined."""
        features = [before_last, last]
        sums: list[Tensor | None] = [None] * self.nodes
        for source, (readers, mixed) in enumerate(zip(self.destinations, self.edges.values(), strict=True)):
            rows = weights[[edges_of(node) + source for node in readers]]
            for node, output in zip(readers, self._mix(mixed, features[source], rows).unbind(1), strict=True):
                previous = sums[node]
                sums[node] = output if previous is None else previous + output
            complete = source - 1
            if complete >= 0:
                node_output = sums[complete]
                assert node_output is not None
                features.append(node_output)
        return self._output(features)

    def path(
        self, before_last: Float[Tensor, "b c h w"], last: Float[Tensor, "b c h w"], cell: Cell
    ) -> Float[Tensor, "b out h w"]:
        """The output of one discrete cell with the weights that its operators have in the mixture."""
        features = [before_last, last]
        sums: list[Tensor | None] = [None] * self.nodes
        for source, (readers, mixed) in enumerate(zip(self.destinations, self.edges.values(), strict=True)):
            assert isinstance(mixed, MixedEdges)
            chosen = {
                node - readers[0]: edge.operator for node in readers for edge in cell[node] if edge.source == source
            }
            for destination, output in mixed.path(features[source], chosen).items():
                previous = sums[readers[0] + destination]
                sums[readers[0] + destination] = output if previous is None else previous + output
            if source >= 1:
                node_output = sums[source - 1]
                assert node_output is not None
                features.append(node_output)
        return self._output(features)

    def _output(self, features: list[Tensor]) -> Tensor:
        nodes = torch.cat(features[2:], dim=1)
        return nodes if self.join is None else features[1] + self.join(nodes)

    def _mix(self, mixed: nn.Module, source: Tensor, weights: Tensor) -> Tensor:
        if not (self.recompute and torch.is_grad_enabled()):
            return mixed(source, weights)
        # the second computation must not move the running statistics again
        contexts = lambda: (nullcontext(), statistics_kept(mixed))  # noqa: E731
        # only dropout draws random numbers
        drawn = isinstance(mixed, MixedEdges) and mixed.skip_dropout > 0
        result = checkpoint(mixed, source, weights, use_reentrant=False, preserve_rng_state=drawn, context_fn=contexts)
        assert isinstance(result, Tensor)
        return result
