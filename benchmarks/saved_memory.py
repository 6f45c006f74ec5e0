"""Bytes that the paper's denoising supernet keeps for the backward pass, exactly, against the op-by-op supernet."""

from typing import Any

import torch
from measuring import arguments, interleaved, report, saved_bytes
from reference import ReferenceSuperNet

from irnas_ray.networks.supernet import SuperNet
from irnas_ray.training.loss import restoration_loss


def main() -> None:
    parser = arguments(__doc__ or "", repeats=3)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--width", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clean = torch.rand(options.batch, 1, options.crop, options.crop, device=options.device)
    degraded = clean + 0.2 * torch.randn_like(clean)

    def build(**arguments: Any) -> SuperNet:
        torch.manual_seed(0)
        return SuperNet(1, options.layers, options.nodes, options.width, **arguments).to(options.device)

    nets: dict[str, Any] = {"ours": build(), "ours, recompute": build(recompute=True)}
    nets["ours, a cell for each path (eq. 6)"] = build(share_cells=False)
    nets = {"reference": ReferenceSuperNet.from_supernet(nets["ours"]).to(options.device), **nets}

    def bytes_of(net: Any) -> int:
        return saved_bytes(lambda: restoration_loss(net(degraded), clean), list(net.parameters()))

    def step(net: Any) -> None:
        net.zero_grad(set_to_none=True)
        restoration_loss(net(degraded), clean).backward()

    ours = {name: (lambda net=net: step(net)) for name, net in nets.items() if name != "reference"}
    seconds = interleaved(ours, options.repeats, options.device)
    counted = {name: bytes_of(net) for name, net in nets.items()}
    rows = [
        {
            "supernet": name,
            "MB kept": counted[name] / 1e6,
            "of the reference": counted[name] / counted["reference"],
            "of ours": counted[name] / counted["ours"],
            "time of ours": seconds[name] / seconds["ours"] if name in seconds else "",
        }
        for name in nets
    ]
    report("saved_memory", rows, options)


if __name__ == "__main__":
    main()
