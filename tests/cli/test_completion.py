"""Tab completion: proposals for a line that is begun, and a shell that shows them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line_cases import ROOT

from irnas_ray.__main__ import COMMANDS, main
from irnas_ray.cli.completion import completions

PROPOSED = {
    "irnas-ray ": [f"{name} " for name in COMMANDS],
    "irnas-ray re": ["retrain ", "restore "],
    "irnas-ray search tune.max_m": ["tune.max_multiply_adds="],
    "irnas-ray search study=a arch": ["architecture."],
    "irnas-ray search search_spaces=compact_x": ["compact_x2 ", "compact_x3 ", "compact_x4 "],
    "irnas-ray search final.rotate=": ["true ", "false "],
    "irnas-ray restore network=gray-noise": ["gray-noise ", "gray-noise-"],
    "irnas-ray restore overw": ["overwrite="],
    "irnas-ray search tune.trials=": [],
    "irnas-ray nothing x": [],
    "irnas-ray restore search_spaces=": [],
}


@pytest.mark.parametrize(("line", "proposed"), PROPOSED.items())
def test_what_can_follow_is_proposed(line: str, proposed: list[str]) -> None:
    found = completions(line)
    if line.endswith("gray-noise"):
        assert all(any(name.startswith(begun) for name in found) for begun in proposed)
    else:
        assert found == proposed


def test_every_key_of_a_command_is_reached() -> None:
    begun, keys = [""], set()
    while begun:
        typed = begun.pop()
        for proposal in completions(f"irnas-ray search {typed}"):
            (keys.add if proposal.endswith("=") else begun.append)(proposal)
    assert {"study=", "final.steps=", "architecture.unshuffle=", "degradation=", "degradation.camera.shot="} <= keys


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_completes_with_it(tmp_path: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    program = tmp_path / "irnas-ray"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m irnas_ray "$@"\n')
    program.chmod(0o755)
    lines = [
        f"PATH={tmp_path}:$PATH; {'autoload -U compinit && compinit -u -D' if shell == 'zsh' else ':'}",
        f'eval "$(irnas-ray --completion {shell})"',
        'COMP_LINE="irnas-ray search final.prec"; COMP_POINT=${#COMP_LINE}; _irnas_ray; echo "${COMPREPLY[@]}"',
    ]
    shown = subprocess.run([shell, "-c", "\n".join(lines)], capture_output=True, text=True, check=True).stdout
    assert shown == "final.precision=\n"


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--completion", "fish"])
    assert capsys.readouterr().err == "error: --completion fish: possible: bash, zsh\n"
