"""One table of subcommands behind `irnas-ray`, `python -m irnas_ray` and the launchers, loaded as far as needed."""

import inspect
import shutil
import subprocess
import sys
from pathlib import Path
from pkgutil import resolve_name

import pytest
from command_line_cases import compose
from study_cases import environment

from irnas_ray import __version__
from irnas_ray.__main__ import COMMANDS, main
from irnas_ray.cli.configuration import KINDS
from irnas_ray.results.folder import StudyFolder
from irnas_ray.settings.study import StudyConfig
from irnas_ray.study import study

ROOT = Path(__file__).parents[2]
LAUNCHERS = {path.stem: path for path in (ROOT / "launchers").glob("*.py")}
#: What takes seconds to load, and is not needed to say what is possible.
HEAVY = {"torch", "ray", "optuna", "skimage", "scipy", "numpy", "pyarrow", "matplotlib"}


def ended(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    """Exit status and message of a command that fails."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return caught.value.code, capsys.readouterr().err


def test_every_subcommand_is_listed_in_a_line(capsys):
    main(["--help"])
    lines = capsys.readouterr().out.splitlines()[2:-2]
    assert [line.split()[0] for line in lines] == list(COMMANDS)
    assert all(len(line) <= 120 and line.endswith(".") for line in lines)
    main(["--version"])
    assert capsys.readouterr().out == f"irnas-ray {__version__}\n"


def test_a_wrong_subcommand_is_named_with_what_is_possible(capsys):
    status, message = ended(["serch", "study=mine"], capsys)
    assert status == 2 and message.startswith("error: unknown command 'serch'; did you mean search?\npossible: prepare")
    for arguments in ([], ["--hydra-help"], ["study=mine"]):
        status, message = ended(arguments, capsys)
        assert status == 2 and "did you mean" not in message and "irnas-ray --help" in message


def test_every_subcommand_has_its_function_its_settings_and_its_launcher():
    assert COMMANDS.keys() == KINDS.keys() == LAUNCHERS.keys()
    for name, command in COMMANDS.items():
        (parameter,) = inspect.signature(resolve_name(command.function)).parameters.values()
        assert parameter.annotation is KINDS[name]


@pytest.mark.parametrize("name", ["search", "prepare"])
def test_a_launcher_is_the_same_command(name):
    ways = ([str(LAUNCHERS[name])], ["-m", "irnas_ray", name])
    texts = [
        subprocess.run(
            [sys.executable, *way, "--help"], capture_output=True, text=True, timeout=400, env=environment(), check=True
        ).stdout
        for way in ways
    ]
    assert texts[0] == texts[1] and f"irnas-ray {name} [key=value ...]" in texts[0]


LIGHT: dict[str, set[str]] = {
    "--help": {"hydra"},
    "serch": {"hydra"},
    "restore --help": set(),
    "search --help": set(),
    "search --help all search_spaces=hinas": set(),
    "search --cfg job": set(),
    "restore results/x/network.pt": set(),
    "search search.epochs=0": set(),
    "restore absent.jpg": set(),
    "evaluate network=absent.pt": set(),
    "evaluate data=images data.source=absent": set(),
    "networks": set(),
    "search architecture.nods=3": set(),
    "search search_spaces=none_such": set(),
    "search domains.architecture.nodes=3": set(),
    "retrain final.lr=fast": set(),
    "restore --unknown": set(),
    "search search.method=other": set(),
    "search tune.objectives=[other]": set(),
    "export network=gray-noise format=other": set(),
    "evaluate protocol=rain800-y": set(),
    "restore color=luma": set(),
    "analyze study=absent": set(),
}


@pytest.mark.parametrize("line", LIGHT)
def test_what_a_command_line_says_needs_no_heavy_library(line, tmp_path):
    program = (
        "import sys\nfrom irnas_ray.__main__ import main\n"
        f"try: main({line.split()})\nexcept SystemExit: pass\n"
        f"assert not {HEAVY | LIGHT[line]} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=400, env=environment()
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("place", ["", "bin"])
def test_an_interrupt_tells_the_command_as_it_was_typed(monkeypatch, capsys, tmp_path, place):
    """The program by its name where the shell finds it, else by its path."""
    script = tmp_path / "bin" / "irnas-ray"
    script.parent.mkdir()
    script.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / place))
    assert (shutil.which("irnas-ray") is not None) == bool(place)

    def interrupt(config: StudyConfig) -> None:
        if begun:
            StudyFolder(config).create(config)
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "run_study", interrupt)
    begun, words = False, ["search", f"results={tmp_path}", "study=my study"]
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, str(script), *words])
    again = f"{'irnas-ray' if place else script} search results={tmp_path} 'study=my study'"
    assert ended(words, capsys)[1].endswith(f"continue with\n  {again}\n")
    begun = True
    assert ended(words, capsys)[1].endswith(f"continue with\n  {again} resume=true\n")
    shutil.rmtree(tmp_path / "my study")
    monkeypatch.setattr(sys, "orig_argv", ["python3", "-m", "irnas_ray", *words])
    again = f"python3 -m irnas_ray search results={tmp_path} 'study=my study' resume=true"
    assert ended(words, capsys) == (130, f"error: interrupted; what was finished is kept; continue with\n  {again}\n")


def test_where_search_spaces_of_one_name_collide_the_launchers_clone_comes_first(tmp_path, monkeypatch, caplog):
    def space(folder: str, name: str) -> None:
        path = tmp_path / folder / "search_spaces" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# @package _global_\nsearch_space: {name}\nstudy: of_{folder}\n")

    def chosen(name: str) -> str | None:
        caplog.clear()
        return compose(f"search_spaces={name}").study

    for folder, name in (("clone", "hinas"), ("clone", "theirs"), ("here", "hinas"), ("here", "mine")):
        space(folder, name)
    monkeypatch.chdir(tmp_path / "here")
    assert chosen("mine") == "of_here" and not caplog.records
    assert chosen("hinas") is None and "here/search_spaces/hinas.yaml is not used" in caplog.text
    (tmp_path / "clone" / "launchers" / "cluster").mkdir(parents=True)
    # as launchers/cluster/search_or_resume.sh names it
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "clone" / "launchers" / "cluster" / ".." / "search.py")])
    assert chosen("theirs") == "of_clone" and chosen("mine") == "of_here" and not caplog.records
    assert chosen("hinas") == "of_clone" and "here/search_spaces/hinas.yaml is not used" in caplog.text
    shutil.copy(tmp_path / "clone" / "search_spaces" / "hinas.yaml", "search_spaces")
    assert chosen("hinas") == "of_clone" and not caplog.records
