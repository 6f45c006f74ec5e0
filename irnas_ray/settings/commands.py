"""Every setting of the commands that run no study, from prepare to analyze; as in ``settings``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irnas_ray.settings.bounds import bounded, one_of
from irnas_ray.settings.degradations import Degradation
from irnas_ray.settings.study import Data
from irnas_ray.system.exit_status import WrongSetting


@dataclass
class Frozen:
    """How much of the clean images is degraded once and for good."""

    #: Patches of training images, as many as SIM1800 had; freeze=images keeps all images whole.
    train: int = bounded(1600, at_least=1)
    #: Patches of test images, as many as SIM1800 had.
    test: int = bounded(212, at_least=1)
    #: Seed of which patches are taken and of all that is random in their degradation.
    seed: int = bounded(0, at_least=0)


@dataclass
class PrepareConfig:
    """Everything that `irnas-ray prepare` can be told."""

    data: Data = field(default_factory=Data)
    #: Degrade clean images now and store pairs: patches (of data.patch pixels), images (whole), or null (not at all).
    freeze: str | None = one_of(None, "patches", "images")
    frozen: Frozen = field(default_factory=Frozen)
    #: What freeze does; else what the contact sheet shows beside clean patches, which the data set holds.
    degradation: Degradation = field(default_factory=Degradation)
    #: Only check the images and draw the contact sheet; exit status 3 if something would invalidate results.
    check: bool = False
    #: A further set (folder, CSV or prepared folder) whose scenes must not be among the training images.
    check_against: str | None = None
    #: PNG file for the contact sheet of check=true; null: contact_sheet.png where you stand, numbered if that exists.
    contact_sheet: str | None = None
    #: Processes; null: one for each core that memory allows, or one for little data. The result does not depend on it.
    workers: int | None = bounded(None, at_least=1)


@dataclass
class EvaluateConfig:
    """Everything that `irnas-ray evaluate` can be told."""

    #: network.pt to score, or a file of `irnas-ray export`; [FILE,FILE] or {name: FILE} for several.
    network: Any = None
    #: Baselines: degraded, bicubic (super-resolution), non_local_means, wavelet, tv, bm3d, or a list of them.
    method: Any = None
    #: Folder of images that another program restored, named as the test images; [FOLDER,FOLDER] or {name: FOLDER}.
    restored: Any = None
    #: scores.json of earlier evaluations to list in the same table, if protocol, sigma and images are the same.
    scores: Any = None
    #: Where no method is named: score the degraded input and non-local means.
    baselines: bool = True
    #: Class of a network of your own, as package.module:Class; its code is run, so it is never taken from the file.
    network_class: str | None = None
    #: Id of the protocol; null: the one under which the network was scored when it was trained.
    protocol: str | None = None
    #: Noise level on the 0-255 scale; null: the one that the network was trained for.
    sigma: float | None = None
    #: Which windows SSIM counts: cropped (those inside the image, as scikit-image) or zero_padded (one around every
    #: pixel with zeros beyond the border, as the code of many papers: about 0.01 higher on denoised images).
    ssim: str = one_of("cropped", "zero_padded")
    data: Data = field(default_factory=Data)
    #: Most test images that are scored; null: all.
    images: int | None = bounded(None, at_least=1)
    #: Side in pixels of the tiles in which images are restored; null: whole images.
    tile: int | None = bounded(None, at_least=1)
    #: Pixels around each tile that the network sees too; neighbouring tiles fade into each other.
    overlap: int = bounded(32, at_least=0)
    #: Largest image in megapixels that is opened; more than 179, the default, only in tiles.
    max_megapixels: float = bounded(179, more_than=0)
    #: Average a network's results over the image's eight rotations and mirror images; eight times the work.
    self_ensemble: bool = False
    #: Processes that slow baselines use side by side; null: one for each core. The scores are the same.
    processes: int | None = bounded(None, at_least=1)
    #: Has no effect, because intervals are computed and no longer drawn; kept for old command lines.
    seed: int = 0
    #: Images on the picture sheet, spread over all of them; 0: no sheet.
    sheet_images: int = bounded(4, at_least=0)
    #: Folder for the tables (Markdown, CSV, JSON), scores of each image, restored images and the picture sheet; null:
    #: only the table is printed.
    output: str | None = None

    def check_given(self) -> None:
        """WrongSetting if there is nothing to score."""
        if not (self.network or self.restored or self.method or self.scores):
            raise WrongSetting("nothing to score: give network=FILE, restored=FOLDER, method=NAME, or several of them")


@dataclass
class RestoreConfig:
    """Everything that `irnas-ray restore` can be told."""

    #: network.pt to restore with, a file of `irnas-ray export`, or the name of a network that ships; without it one of
    #: these is chosen by the images' colours.
    network: str = ""
    #: Class of a network of your own, as package.module:Class; its code is run, so it is never taken from the file.
    network_class: str | None = None
    #: Image, or folder of images.
    input: str = ""
    #: Folder for the restored images (PNG); without it one image is written where you stand, as NAME_restored.png.
    output: str = ""
    #: What a gray network does with colour images: gray converts them, luma restores their luma and keeps the colours,
    #: each restores red, green and blue apart; null: colours must fit the network.
    color: str | None = one_of(None, "gray", "luma", "each")
    #: How many times images are enlarged first (bicubic): 1 to 8; null: as the network was trained, which is 1 except
    #: for super-resolution.
    upscale: int | None = bounded(None, at_least=1, at_most=8)
    #: Side in pixels of the tiles in which images are restored; null: whole images.
    tile: int | None = bounded(256, at_least=1)
    #: Pixels around each tile that the network sees too; neighbouring tiles fade into each other.
    overlap: int = bounded(32, at_least=0)
    #: Average the results over the image's eight rotations and mirror images; eight times the work.
    self_ensemble: bool = False
    #: Largest image in megapixels that is opened; more than 179, the default, only in tiles.
    max_megapixels: float = bounded(179, more_than=0)
    #: Replace images of the same name in the output folder.
    overwrite: bool = False

    def check_given(self) -> None:
        """WrongSetting unless it is said what is restored, and of a folder where to."""
        if not self.input:
            raise WrongSetting("input: is missing; give it as input=PATH")
        if not self.output and Path(self.input).is_dir():
            raise WrongSetting("output: is missing; give it as output=PATH")


@dataclass
class NetworksConfig:
    """Everything that `irnas-ray networks` can be told."""

    #: Name of a network that ships, whose card is printed; null: all are listed.
    network: str | None = None


@dataclass
class ExportConfig:
    """Everything that `irnas-ray export` can be told."""

    #: network.pt to export.
    network: str = ""
    #: onnx (for onnxruntime and others) or torch_export (.pt2, for PyTorch without this package).
    format: str = one_of("onnx", "torch_export")
    #: File to write, in .onnx or .pt2 as the format has it; null: beside the network. What it needs is written to
    #: FILE.json.
    output: str | None = None
    #: Class of a network of your own, as package.module:Class; its code is run, so it is never taken from the file.
    network_class: str | None = None
    #: Replace files that exist.
    overwrite: bool = False

    def check_given(self) -> None:
        """WrongSetting unless it is said what is exported."""
        if not self.network:
            raise WrongSetting("network: is missing; give it as network=PATH")


@dataclass
class AnalyzeConfig:
    """Everything that `irnas-ray analyze` can be told."""

    #: Folder of the study, such as results/quickstart.
    study: str = ""
    #: How many of the best trials are listed and counted.
    top: int = bounded(10, at_least=1)
    #: Folder for the pictures (PNG) and interactive.html; null: analysis/ in the study's folder.
    output: str | None = None
    #: Folder of another study, whose scores interactive.html compares with this one's.
    against: str | None = None

    def check_given(self) -> None:
        """WrongSetting unless it is said which study is shown."""
        if not self.study:
            raise WrongSetting("study: give the study's folder, for example study=results/quickstart")
