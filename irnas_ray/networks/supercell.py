"""The cell of the supernet: every node reads both inputs and all earlier nodes through mixed operators (eq. 1-3)."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from irnas_ray.genotypes.decoding import edges_of
from irnas_ray.kernels.mixed_batch_norm import normalised_sum, statistics_kept
from irnas_ray.networks.operators import OPERATIONS, Operator, activate


class MixedEdges(nn.Module):
    """All edges that leave one source: the sum over operators of alpha times operator, for each destination (eq. 2).

    They share the activation, and each operator treats all destinations at once (see ``operations``).
    """

    def __init__(
        self, width: int, destinations: int, operators: Sequence[str], activation: str, sep_repeats: int
    ) -> None:
        super().__init__()
        self.width, self.destinations, self.activation = width, destinations, activation
        self.operators = nn.ModuleDict(
            {
                name: OPERATIONS[name](width, destinations, activation, sep_repeats, affine=False)
                for name in operators
                if name != "none"
            }
        )
        self.columns = {name: list(operators).index(name) for name in self.operators}
        self.norms = nn.ModuleDict(
            {
                name: nn.BatchNorm2d(destinations * width, affine=False)
                for name in self.operators
                if OPERATIONS[name].normalised
            }
        )

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
                plain = self._operator(name)(source, activated).unflatten(1, (-1, self.width))
                factor = weights[:, self.columns[name], None, None, None]
                total = plain * factor if total is None else torch.addcmul(total, plain, factor)
        assert total is not None  # check_operators demands an operator besides `none`
        return total

    def _operator(self, name: str) -> Operator:
        operator = self.operators[name]
        assert isinstance(operator, Operator)
        return operator


class SuperCell(nn.Module):
    """A cell whose nodes read both inputs and all earlier nodes through mixed operators (eq. 1-3).

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
    ) -> None:
        super().__init__()
        self.nodes, self.recompute = nodes, recompute
        self.destinations = [list(range(max(0, source - 1), nodes)) for source in range(nodes + 1)]
        self.edges = nn.ModuleDict(
            {
                f"from{source}_to{readers[0]}-{readers[-1]}": MixedEdges(
                    width, len(readers), operators, activation, sep_repeats
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
        """Concatenated nodes from h(l-2), h(l-1) and softmax(alpha)."""
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
        return torch.cat(features[2:], dim=1)

    def _mix(self, mixed: nn.Module, source: Tensor, weights: Tensor) -> Tensor:
        if not (self.recompute and torch.is_grad_enabled()):
            return mixed(source, weights)
        # the second computation must not move the running statistics again
        contexts = lambda: (nullcontext(), statistics_kept(mixed))  # noqa: E731
        result = checkpoint(mixed, source, weights, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
        assert isinstance(result, Tensor)
        return result
