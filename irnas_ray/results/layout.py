"""What lies where in a study's folder: the one place that knows the names of its files, and reads those of records."""

from pathlib import Path
from typing import Any

import yaml

from irnas_ray.system.files import read_json


class StudyLayout:
    """The files of a study's folder, whether they exist or not."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def config(self) -> Path:
        """Every setting that the study was begun with."""
        return self.path / "config.yaml"

    @property
    def trials(self) -> Path:
        """Tune's runs, unless ``cluster.storage`` names another place, and what is kept of them."""
        return self.path / "trials"

    @property
    def rounds(self) -> Path:
        """Size and first trial of every round of search trials that was begun."""
        return self.trials / "rounds.json"

    @property
    def records(self) -> Path:
        """The records of all rounds that are through."""
        return self.trials / "records.json"

    @property
    def pace(self) -> Path:
        """How long steps take on the cluster that the study was begun on, where it is to keep to a time."""
        return self.trials / "pace.json"

    @property
    def summary(self) -> Path:
        """What a finished study came to."""
        return self.path / "summary.json"

    @property
    def report(self) -> Path:
        """The study as one page."""
        return self.path / "report.html"

    @property
    def analysis(self) -> Path:
        """Pictures of how the study went."""
        return self.path / "analysis"

    @property
    def baselines(self) -> Path:
        """The baselines' scores of each image."""
        return self.path / "baselines"

    @property
    def tensorboard(self) -> Path:
        """Curves and sample images of the final trainings, for TensorBoard."""
        return self.path / "tensorboard"

    @property
    def genotypes(self) -> Path:
        """What each trial has found."""
        return self.path / "genotypes"

    def genotype(self, trial: str) -> Path:
        """What a trial has found."""
        return self.genotypes / f"{trial}.json"

    def final(self, rank: int) -> Path:
        """Folder of the final network of this rank, see ``FinalLayout``."""
        return self.path / "finals" / str(rank)

    def read_settings(self) -> dict[str, Any]:
        """``config.yaml`` as plain values; ValueError naming the file if it is missing, damaged, or holds none."""
        try:
            value = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise ValueError(f"{self.config} cannot be read ({str(error).splitlines()[0]})") from None
        if not isinstance(value, dict):
            raise ValueError(f"{self.config} holds no settings")
        return value

    def read_records(self) -> list[dict[str, Any]]:
        """The records of the search trials of all rounds that are through; ValueError as ``read_settings``."""
        return _read_json(self.records, [])

    def read_rounds(self) -> list[list[int]]:
        """Size and first trial of every round that was begun; ValueError as ``read_settings``."""
        return _read_json(self.rounds, [])

    def read_summary(self) -> dict[str, Any]:
        """``summary.json``, empty while the study is not finished; ValueError as ``read_settings``."""
        return _read_json(self.summary, {})

    def open_round(self) -> int | None:
        """The size of the round of search trials that was begun and is not through; None where there is none."""
        begun = self.read_rounds()
        return begun[-1][0] if len(begun) > len({record["round"] for record in self.read_records()}) else None


class FinalLayout:
    """The files of a final network's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: Weights of the best validation and of the last step, each with all that restoring needs.
        self.network, self.last = path / "network.pt", path / "last.pt"
        self.genotype = path / "genotype.json"
        #: What the training came to, and the scores of each image as a table.
        self.metrics, self.scores = path / "metrics.json", path / "scores.csv"
        #: The restored test images, and some of them beside the degraded and the clean ones, whole and enlarged.
        self.images, self.sheet = path / "images", path / "sheet.png"


def settings_in(folder: Path) -> dict[str, Any]:
    """The settings of the study in a folder, as plain values; ValueError as ``StudyLayout.read_settings``."""
    return StudyLayout(folder).read_settings()


def check_study(folder: Path) -> None:
    """ValueError unless a folder is a study's or an audit's; it names the studies that lie near."""
    if not StudyLayout(folder).config.is_file():
        what = "has no config.yaml, so it is not a study" if folder.is_dir() else "does not exist"
        raise ValueError(f"{folder} {what}; {studies_near(folder)}")


def studies_near(folder: Path) -> str:
    """The studies in a folder, beside it, or in results/, as a text."""
    for place in (folder, folder.parent, Path("results").absolute()):
        names = sorted(path.name for path in place.glob("*/") if StudyLayout(path).config.is_file())
        if names:
            return f"studies in {place}: {', '.join(names)}"
    return f"there are no studies in {folder.parent}"


def _read_json(path: Path, default: Any) -> Any:
    if not path.exists():
        return default
    value = read_json(path)
    if not isinstance(value, type(default)):
        raise ValueError(f"{path} holds something else than expected")
    return value
