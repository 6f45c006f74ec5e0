"""A search step of the paper's denoising supernet in this checkout against one in another, as processes in turns.

    git worktree add ../first 11fb79e
    (cd ../first && python -c "import setuptools; setuptools.setup()" build_ext --inplace)
    python benchmarks/releases.py ../first --threads 1

The other checkout needs its compiled code in place, or what is compared is the lack of it. 11fb79e is the release that
this development began with. Seconds are medians of the rounds' medians.
"""

import statistics
import subprocess
import sys
from pathlib import Path

from measuring import arguments, report

#: The step, in a process of its own: imports are those of either layout of the package.
STEP = """
import statistics, sys, time
root, threads, operators, repeats = sys.argv[1], int(sys.argv[2]), sys.argv[3].split(), int(sys.argv[4])
sys.path.insert(0, root)
import torch
torch.set_num_threads(threads)
import irnas_ray
assert irnas_ray.__file__.startswith(root), irnas_ray.__file__
try:
    from irnas_ray.networks.supernet import SuperNet
    from irnas_ray.search.bilevel import BilevelSearch
    from irnas_ray.kernels import compiled
except ImportError:
    from irnas_ray.supernet import SuperNet
    from irnas_ray.searching import BilevelSearch
    from irnas_ray import native as compiled
assert compiled.available, root + " has no compiled code in place"
torch.manual_seed(0)
net = SuperNet(1, 4, 5, 10, operators=operators)
clean = torch.rand(1, 1, 64, 64)
batches = [(clean + 0.2 * torch.randn_like(clean), clean)]
search = BilevelSearch(net, batches, batches, lambda _: {}, epochs=10**6, warmup_epochs=0, steps_per_epoch=1)
seconds = []
for repeat in range(2 + repeats):
    begun = time.perf_counter()
    search._steps(True)
    if repeat > 1:
        seconds.append(time.perf_counter() - begun)
print(statistics.median(seconds))
"""
OPERATORS = ("conv sep dil def skip none", "conv sep dil skip none")
#: Steps in a process that are timed.
STEPS = 3


def seconds_of(root: Path, threads: int, operators: str) -> float:
    """The median of a few steps of a checkout in a new process."""
    words = [str(root.resolve()), str(threads), operators, str(STEPS)]
    done = subprocess.run([sys.executable, "-c", STEP, *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{root}: {done.stderr.strip().splitlines()[-1]}")
    return float(done.stdout)


def main() -> None:
    parser = arguments((__doc__ or "").split("\n")[0], repeats=3)
    parser.add_argument("other", type=Path, help="folder of the other checkout")
    options = parser.parse_args()
    here = Path(__file__).resolve().parents[1]
    rows = []
    for operators in OPERATORS:
        rounds = [
            [seconds_of(root, options.threads, operators) for root in (options.other, here)]
            for _ in range(options.repeats)
        ]
        before, now = (statistics.median(each) for each in zip(*rounds, strict=True))
        rows.append({"operators": operators, "other (s)": before, "here (s)": now, "times faster": before / now})
    options.other = options.other.name
    report("releases", rows, options)


if __name__ == "__main__":
    main()
