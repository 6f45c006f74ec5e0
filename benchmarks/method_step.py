"""What a step of each search method takes, relative to a step of `darts`, over the first configurations of `compact`.

A step of a supernet is one of the weights and one of alpha on batches of ``search.batch`` crops; a step of the other
methods trains one final network on ``final.batch`` crops, as the settings say. All are drawn within the same limits.
"""

from itertools import islice
from statistics import fmean

import torch
from measuring import arguments, report

import irnas_ray as ir
from irnas_ray.hpo.methods import METHODS
from irnas_ray.search.single_path import SEARCHES
from irnas_ray.study.pace import MOST_DRAWN, first_configurations, time_configurations

SPACE = ["search_spaces=compact", "architecture.width=12"]


def main() -> None:
    options = arguments(__doc__ or "", threads=1, repeats=3).parse_args()
    torch.set_num_threads(options.threads)
    names = (*SEARCHES, *METHODS)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(options.repeats):
        for name in names:
            drawn = list(
                islice(first_configurations(ir.compose("search", [*SPACE, f"search.method={name}"])), MOST_DRAWN)
            )
            steps, _ = time_configurations(drawn, torch.device(options.device))
            seconds[name].append(fmean(steps))
    rows = [
        {"method": name, "ms a step": 1000 * min(seconds[name]), "relative": min(seconds[name]) / min(seconds["darts"])}
        for name in names
    ]
    report("method_step", rows, options)


if __name__ == "__main__":
    main()
