"""Restoring a 481x321 photograph with the folded final network against the network as it was trained."""

import torch
from measuring import arguments, interleaved, report

from irnas_ray.genotypes.cell import Edge
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.networks.derived import DerivedNetwork, count_parameters
from irnas_ray.networks.folding import folded

#: The paper's denoising cell.
PUBLISHED = (
    (Edge(0, "conv"), Edge(1, "conv")),
    (Edge(2, "dil"), Edge(1, "dil")),
    (Edge(0, "skip"), Edge(2, "def")),
    (Edge(4, "def"), Edge(0, "def")),
    (Edge(5, "skip"), Edge(1, "skip")),
)
NETWORKS = {
    "paper's denoiser": (20, 64, 128, 48),
    "the same at width 8": (8, 16, 24, 12),
}


def main() -> None:
    parser = arguments(__doc__ or "", repeats=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for name, (width, stem, aspp, low) in NETWORKS.items():
        torch.manual_seed(0)
        genotype = Genotype((PUBLISHED,), (0, 0, 1, 1))
        network = DerivedNetwork(
            genotype, 1, width, stem_channels=stem, aspp_channels=aspp, low_level_channels=low
        ).to(options.device)  # fmt: skip
        image = torch.rand(1, 1, 321, 481, device=options.device)
        with torch.no_grad():
            for _ in range(3):  # running statistics as of a network that has been trained on something
                network.train()(torch.rand(2, 1, 48, 48, device=options.device))
        network.eval()
        fast = folded(network)
        with torch.inference_mode():
            expected = network(image)
            difference = (fast(image) - expected).abs().max().item() / expected.abs().max().item()
            calls = {"network": lambda: network(image), "folded": lambda: fast(image)}  # noqa: B023
            seconds = interleaved(calls, options.repeats, options.device)
        rows.append(
            {
                "network": name,
                "parameters": count_parameters(network),
                "as trained (s)": seconds["network"],
                "folded (s)": seconds["folded"],
                "times faster": seconds["network"] / seconds["folded"],
                "largest difference": difference,
            }
        )
    report("inference", rows, options)


if __name__ == "__main__":
    main()
