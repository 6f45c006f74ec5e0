"""The command ``irnas-ray``, also ``python -m irnas_ray``: what it can be told to do, each loaded when it is needed."""

import difflib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

from irnas_ray import __version__
from irnas_ray.cli.command import run
from irnas_ray.cli.configuration import KINDS
from irnas_ray.cli.messages import PROGRAM, complain
from irnas_ray.cli.output import lasting_output
from irnas_ray.system.exit_status import WRONG_COMMAND
from irnas_ray.system.imports import uncollected


@dataclass(frozen=True)
class Command:
    """A subcommand: what it does in a line, further help, and the import name of its function."""

    summary: str
    more: str
    function: str


#: What every command begins with; loaded as late as its own function, as neither an overview nor help needs it.
FIRST = "irnas_ray.cli.named_files:check_named_files"

COMMANDS = {
    "prepare": Command(
        "Turn images, or pairs of them, into a Parquet data set that studies read; or only check them.",
        """\
irnas-ray prepare data.source=BSD500 data.output=prepared/bsd500
irnas-ray prepare data=halves data.source=rain800 data.output=prepared/rain800
irnas-ray prepare data=images data.source=BSD500 data.color=rgb data.output=prepared/sim \\
    freeze=patches degradation=camera
irnas-ray prepare data=halves data.source=rain800 check=true check_against=BSD500/test

Exit status: 0 done, or nothing found; 1 the work failed; 2 the command line is wrong; 3 a check found what would
invalidate results (see docs/data.md).""",
        "irnas_ray.datasets.commands:prepare_or_check",
    ),
    "search": Command(
        "Search architectures and hyperparameters, retrain the best genotypes, score them, keep everything.",
        """\
Without arguments: a few minutes on two cores with photographs that ship with scikit-image. For example:

    irnas-ray search search_spaces=irnas_denoise data=images data.source=BSD500 study=bsd500 cluster=gpu""",
        "irnas_ray.study.study:run_study",
    ),
    "retrain": Command(
        "Train networks from scratch and score them: of a genotype, DnCNN or your own; several in one table.",
        """\
irnas-ray retrain genotype=results/quickstart/genotypes/TRIAL.json study=longer final.steps=5000
irnas-ray retrain network=dncnn final.minutes=20 study=dncnn
irnas-ray retrain genotype=irnas_denoise 'compare.final.ssim_weight=[0,0.5]' study=losses""",
        "irnas_ray.study.retraining:run_retraining",
    ),
    "evaluate": Command(
        "Score networks, baselines and folders of restored images under a named protocol.",
        """\
irnas-ray evaluate network=results/quickstart/finals/1/network.pt
irnas-ray evaluate network=network.pt protocol=bsd200-gray-full data.source=BSD500/test sigma=50
irnas-ray evaluate 'network={ours: a.pt, other: b.pt}' 'method=[degraded,tv,bm3d]' output=comparison
irnas-ray evaluate restored=FOLDER protocol=rain800-y data=halves data.source=rain800/test_syn""",
        "irnas_ray.evaluation.commands:score_methods",
    ),
    "restore": Command(
        "Restore your own image, or a folder of images, with a network.pt or one that ships.",
        """\
irnas-ray restore photo.jpg
irnas-ray restore network=results/quickstart/finals/1/network.pt input=photo.jpg output=restored""",
        "irnas_ray.evaluation.restored_files:restore_images",
    ),
    "networks": Command(
        "List the networks that ship with this package, or print the card of one.",
        """\
irnas-ray networks
irnas-ray networks network=gray-noise""",
        "irnas_ray.cli.shipped_networks:print_networks",
    ),
    "export": Command(
        "Write a network.pt in a format of other tools, ONNX or torch.export, checked against PyTorch.",
        """\
irnas-ray export network=results/quickstart/finals/1/network.pt
irnas-ray export network=network.pt format=torch_export output=exported/network.pt2
irnas-ray evaluate network=network.onnx data=images data.source=FOLDER""",
        "irnas_ray.export.commands:export_network",
    ),
    "analyze": Command(
        "Show what a study has found, finished or still running: best trials, importances, genotypes, pictures.",
        """\
irnas-ray analyze study=results/quickstart
irnas-ray analyze study=results/bsd500 top=20 output=pictures
irnas-ray analyze study=results/second against=results/first""",
        "irnas_ray.results.report:analyze",
    ),
    "audit": Command(
        "Ask whether a search beats random search: whole runs of both, judged by trainings of what they find.",
        """\
irnas-ray audit data=images data.source=BSD500 audit.images=validation study=first
irnas-ray audit data=images data.source=BSD500 tune.seed=7 study=verdict
irnas-ray audit audit.budget=0.02 audit.runs=2 study=smoke""",
        "irnas_ray.audit.arms:run_audit",
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the arguments say, a subcommand and its settings, and exit with a clear status; see ``cli.command.run``.

    Without ``arguments``, those of ``sys.argv``.
    """
    with lasting_output():
        _do(sys.argv[1:] if arguments is None else arguments)


def _do(arguments: Sequence[str]) -> None:
    name, *words = arguments or [""]
    if name in ("-h", "--help"):
        print(_overview())
    elif name == "--version":
        print(f"{PROGRAM} {__version__}")
    elif name in ("--completion", "--complete"):
        _complete(name, " ".join(words))
    elif name in COMMANDS:
        command = COMMANDS[name]
        description = f"{command.summary}\n\n{command.more}"

        def work(settings: Any) -> None:
            for place in (FIRST, command.function):
                with uncollected():
                    function = resolve_name(place)
                function(settings)

        run(name, KINDS[name], work, description, words)
    else:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"unknown command {name!r}{f'; did you mean {close[0]}?' if close else ''}" if name else "no command"
        sys.exit(
            complain(f"{hint}\npossible: {', '.join(COMMANDS)}; {PROGRAM} --help says what they do", WRONG_COMMAND)
        )


def _complete(option: str, text: str) -> None:
    from irnas_ray.cli.completion import SCRIPTS, completions

    if option == "--complete":
        print("\n".join(completions(text)))
    elif text in SCRIPTS:
        print(SCRIPTS[text], end="")
    else:
        sys.exit(complain(f"--completion {text}".rstrip() + f": possible: {', '.join(SCRIPTS)}", WRONG_COMMAND))


def _overview() -> str:
    lines = [f"  {name:<9} {command.summary}" for name, command in COMMANDS.items()]
    usage = f"usage: {PROGRAM} COMMAND [key=value ...], {PROGRAM} COMMAND --help, {PROGRAM} --version"
    completing = f'tab completion: eval "$({PROGRAM} --completion bash)", or zsh'
    return "\n".join([usage, "", *lines, "", completing])


if __name__ == "__main__":
    main()
