"""Every setting of a study as typed dataclasses; each field says what it means and which value the paper uses.

The YAML files in ``irnas_ray/conf`` and ``search_spaces/`` are checked against these classes before any work starts.
"""

import copy
import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from irnas_ray.settings.bounds import bounded, one_of, some_of
from irnas_ray.settings.degradations import Degradation
from irnas_ray.system.exit_status import WrongSetting


@dataclass
class Architecture:
    """The supernet that a trial searches (sections 3.1 and 3.2)."""

    #: Image channels: 1 (gray) or 3 (RGB).
    channels: int = bounded(1, at_least=1)
    #: Layers of cells. Paper: 4 for denoising, 3 for de-raining.
    layers: int = bounded(4, at_least=1)
    #: Nodes in a cell. Paper: 5 for denoising, 4 for de-raining.
    nodes: int = bounded(5, at_least=1)
    #: Basic width W of the supernet's cells. Paper: 10.
    width: int = 10
    #: Candidate operators of an edge, in the order of alpha's columns.
    operators: list[str] = field(default_factory=lambda: ["conv", "sep", "dil", "def", "skip", "none"])
    #: Width of each level as a multiple of the basic width. Paper: 1, 2, 4.
    multipliers: list[float] = field(default_factory=lambda: [1, 2, 4])
    #: One cell for the three paths that meet at a width (eq. 5), or one for each path (eq. 6).
    share_cells: bool = True
    #: One alpha for all layers, or one for each layer.
    tie_cells: bool = True
    #: Predict degraded - clean instead of the clean image.
    residual: bool = False
    #: Activation before each convolution: relu or leaky_relu.
    activation: str = one_of("relu", "leaky_relu")
    #: How often the depthwise and pointwise pair of `sep` is repeated.
    sep_repeats: int = bounded(1, at_least=1, at_most=100)
    #: Channels of the stem's first convolution. Authors' code: 64.
    stem_channels: int = bounded(64, at_least=1)
    #: Keep little for the backward pass and compute it again there: a tenth of the memory, up to 40 % more time.
    recompute: bool = False
    #: Factor of the pixel-unshuffle before the stem, undone after the head, of supernet and final network: 1 to 4.
    unshuffle: int = one_of(1, 2, 3, 4)
    #: batch: batch normalisation after every convolution, as in the paper; none: cells are residual blocks.
    normalisation: str = one_of("batch", "none")
    #: Whether the final network has an atrous pyramid after its last cell.
    aspp: bool = True
    #: Whether the final network's head sees low-level features.
    low_level: bool = True
    #: What makes the image in the final network: two separable convolutions and one more (separable), one after an
    #: activation (plain), or one without it that is zero at first where architecture.residual is on (linear).
    head: str = one_of("separable", "plain", "linear")
    #: Whether the middle third of the layers (of one or two: all) works at half the resolution and twice the width, as
    #: in a U-Net.
    lower_level: bool = False
    #: Whether skip is normalised in the supernet like the other operators.
    normalise_skip: bool = False


@dataclass
class Data:
    """Where images come from and how they are stored (one Parquet data set for a whole study).

    >>> import irnas_ray as ir
    >>> data = ir.Data(source="BSD500", form="images")
    >>> data.color, data.patch
    ('gray', 96)
    """

    #: A folder of images, or of pairs; a CSV of pairs; a folder that `irnas-ray prepare` wrote; null: the photographs.
    source: str | None = None
    #: photographs (embedded), images (clean only), halves (clean | degraded side by side), pairs (see docs/data.md).
    form: str = one_of("photographs", "images", "halves", "pairs")
    #: How the clean files of pairs in one folder are named, without their endings; the * is what both share. PolyU's.
    clean_names: str = "*_mean"
    #: How the degraded files of pairs in one folder are named, without their endings.
    degraded_names: str = "*_real"
    #: Where the Parquet data set is written; null: beside the results, named after its content.
    output: str | None = None
    #: gray or rgb.
    color: str = one_of("gray", "rgb")
    #: Smallest side in pixels that a training image may have, which bounds the crops; side of frozen patches.
    patch: int = 96
    #: Changes nothing that is stored or drawn, because whole images are stored and crops lie anywhere in them; kept for
    #: old command lines. Data sets that differ in it still count as different ones.
    stride: int | None = bounded(None, at_least=1)
    #: Share of the images held out for the final score where the source has no test folder.
    test_fraction: float = 0.2
    #: Share of the training images that validates the supernet (Train V). Paper: 0.02.
    validation_fraction: float = 0.02
    #: Seed of both splits; one for a study, so that all trials are scored on the same images.
    split_seed: int = 0
    #: Largest data set in MiB that is kept on the trial's device; larger ones are streamed.
    device_budget: int = bounded(4096, at_least=1)


#: How far alpha travels in DARTS' own runs: Adam moves a logit by at most about its rate in a step.
TRAVEL = 6.0
#: Methods whose trials train a supernet; those of the others train the network of one genotype.
SUPERNETS = ("darts", "single_path")
#: How the names of a genotype's genes begin, which stand beside values of settings.
GENES = "genotype."


@dataclass
class Search:
    """The search of one trial: bilevel as in the paper (sections 3.3 and 4.1), or a short training of one genotype."""

    #: How genotypes are found: by a supernet in each trial, whose mixture is trained (darts) or whose paths are, one by
    #: one (single_path); or predictor, evolution, tpe, random: proposed beside the domains, and each trial trains one
    #: for `epochs` by the recipe under `final` (docs/search.md).
    method: str = one_of("darts", "single_path", "evolution", "predictor", "tpe", "random")
    #: evolution: how many of the newest configurations are parents; null: a third of `tune.trials`. predictor: how many
    #: configurations are uniform at first; null: a quarter of them.
    population: int | None = bounded(None, at_least=2)
    #: evolution, single_path: how many parents, drawn at random, compete for each child.
    tournament: int = bounded(3, at_least=1)
    #: single_path: how many paths are scored with the supernet's weights once these are trained.
    path_evaluations: int = bounded(200, at_least=1)
    #: Epochs. Paper: 100.
    epochs: int = bounded(100, at_least=1)
    #: First epochs that train weights only. Paper: 20.
    warmup_epochs: int = 20
    #: Weight steps in an epoch.
    steps_per_epoch: int = bounded(1000, at_least=1)
    #: Patches in a batch. Paper: 12.
    batch: int = bounded(12, at_least=1)
    #: Side of the random crops in pixels; as final.crop. Paper: 64.
    crop: int = 64
    #: lambda of the loss (eq. 7). Paper: 0.5.
    ssim_weight: float = bounded(0.5, at_least=0)
    #: SGD's initial rate, from which a cosine leads to the last one. Paper: 0.025.
    weight_lr: float = bounded(0.025, at_least=0)
    #: SGD's last rate. Paper: 0.001.
    weight_lr_min: float = bounded(0.001, at_least=0)
    #: SGD's momentum. Paper: 0.9.
    momentum: float = bounded(0.9, at_least=0)
    #: SGD's weight decay. Paper: 3e-4.
    weight_decay: float = bounded(3e-4, at_least=0)
    #: Adam's rate for alpha and beta; null: 6 divided by the architecture steps, so that alpha can travel as far as it
    #: does in DARTS' own runs, however short the search. Paper: 1e-3.
    arch_lr: float | None = bounded(1e-3, at_least=0)
    #: Adam's first beta for alpha and beta. DARTS: 0.5; Adam's own, which the paper leaves alone: 0.9.
    arch_beta1: float = bounded(0.9, at_least=0, at_most=0.999)
    #: Adam's weight decay for alpha and beta. Paper: 1e-3.
    arch_weight_decay: float = bounded(1e-3, at_least=0)
    #: Largest norm of the weights' gradient; null: not clipped. The paper does not say; 5 as DARTS, because without it
    #: the head, which no normalisation follows, can diverge to NaN at the paper's rate.
    gradient_clip: float | None = bounded(5.0, more_than=0)
    #: Epochs between validations, reports and checkpoints.
    validate_every: int = bounded(1, at_least=1)
    #: Side in pixels of the tiles in which validation images are restored; null: whole images. Paper: 64.
    tile: int | None = bounded(64, at_least=1)
    #: Share of a trial's arithmetic that its validations may take: short searches score only the middles of the images,
    #: or of some of them; at the paper's length nothing is left out. 1: always all.
    validation_share: float = bounded(0.05, more_than=0, at_most=1)
    #: Train the weights of the warm-up on uniformly sampled paths instead of the mixture, each operator of an edge
    #: equally often; for supernets of one width (architecture.multipliers=[1]).
    warmup_paths: bool = False
    #: beta-DARTS: this times the loss times the mean of logsumexp(alpha) is added to the architecture's loss, rising
    #: linearly from 0. Its authors end at 25 to 50.
    beta_decay: float = bounded(0.0, at_least=0)
    #: DARTS-: every edge of the supernet also passes its input on, this many times at first, falling linearly to 0. Its
    #: authors begin with 1.
    auxiliary_skip: float = bounded(0.0, at_least=0)
    #: Smooth DARTS: weight steps see alpha's probabilities with uniform noise up to this, growing from a tenth of it.
    #: Its authors end at 0.3.
    alpha_noise: float = bounded(0.0, at_least=0, at_most=1)
    #: P-DARTS: dropout behind every skip of the supernet, this rate at first, falling linearly to 0.
    skip_dropout: float = bounded(0.0, at_least=0, at_most=0.95)
    #: How the supernet is decoded: argmax (the largest weights, as in the paper), or masking (edge by edge, what hurts
    #: Train V most when it is taken away, as DARTS-PT).
    decoding: str = one_of("argmax", "masking")
    #: Weight steps of what is left of the supernet after each decision of masking.
    masking_steps: int = bounded(20, at_least=0)
    #: Distinct decodings of the supernet that go through short trainings on rungs, where one of tune.reduction_factor
    #: continues each time; the best one is the trial's genotype. 1: that of `decoding` alone.
    candidates: int = bounded(1, at_least=1)
    #: Steps of a short training of the decoded network that ends a trial and ranks it; 0: off. Only with a supernet.
    proxy_steps: int = bounded(0, at_least=0)

    def arch_rate(self) -> float:
        """Adam's rate for alpha and beta: ``arch_lr``, or what lets alpha travel by ``TRAVEL`` in this search."""
        return TRAVEL / self.arch_steps() if self.arch_lr is None else self.arch_lr

    def arch_steps(self) -> int:
        """Architecture steps of the whole search, at least one."""
        return max(1, (self.epochs - self.warmup_epochs) * self.steps_per_epoch)

    @property
    def supernet(self) -> bool:
        """Whether trials train a supernet."""
        return self.method in SUPERNETS


#: Settings under `final` that decide what a final network costs.
CHANNELS = tuple(f"final.{name}" for name in ("width", "stem_channels", "aspp_channels", "low_level_channels"))
#: Settings that shape a final network beside its genotype.
SHAPES = ("architecture.residual", "architecture.activation", "architecture.sep_repeats", *CHANNELS)


@dataclass
class Final:
    """The retraining of the best genotypes (section 4.1)."""

    #: How many distinct genotypes are retrained.
    count: int = bounded(2, at_least=1)
    #: Basic width of the final networks. Paper's denoiser 20, de-rainer 15.
    width: int = 20
    #: Channels of the stem's first convolution. Authors' code: 64.
    stem_channels: int = bounded(64, at_least=1)
    #: Channels of the atrous pyramid. Authors' code: 128.
    aspp_channels: int = bounded(128, at_least=1)
    #: Channels of the low-level branch. Authors' code: 48.
    low_level_channels: int = bounded(48, at_least=1)
    #: Training steps. Paper: 600,000.
    steps: int = bounded(600_000, at_least=1)
    #: Minutes of wall-clock time to train for instead of `steps`; the schedule follows the time used. Intermediate
    #: validations count; the one after the last step and the test score are extra.
    minutes: float | None = None
    #: Patches in a batch. Paper: 12.
    batch: int = bounded(12, at_least=1)
    #: Side of the random crops in pixels. What is no multiple of architecture.unshuffle, of twice that with a lower
    #: level, is filled up by reflection in every step. Paper: 64.
    crop: int = 64
    #: Processes that train one network together, each on its share of every batch, with `cluster.cpus_per_trial` CPUs
    #: and, where trials have GPUs, one GPU of its own. The result is that of one except for rounding.
    workers: int = bounded(1, at_least=1)
    #: adam, adamw, or sgd (momentum 0.9).
    optimizer: str = one_of("adam", "adamw", "sgd")
    #: Initial rate. The paper prints 0.05, with which Adam diverges.
    lr: float = bounded(1e-3, at_least=0)
    #: cosine, polynomial (power 0.9) or constant.
    schedule: str = one_of("cosine", "polynomial", "constant")
    #: Share of the training in which the rate rises linearly to `lr`, before the schedule begins.
    warmup: float = 0.0
    #: L2 penalty of the optimizer; decoupled from the gradient with adamw.
    weight_decay: float = bounded(0.0, at_least=0)
    #: Adam's decay of the squared gradients' mean.
    beta2: float = bounded(0.999, at_least=0, less_than=1)
    #: lambda of the loss (eq. 7); 0 trains on the squared error alone. Paper: 0.5.
    ssim_weight: float = bounded(0.5, at_least=0)
    #: Largest norm of the gradient; null: not clipped.
    gradient_clip: float | None = bounded(1.0, more_than=0)
    #: Decay of an exponential moving average of the weights, which is then validated and kept; null: no averaging.
    ema_decay: float | None = None
    #: float32, or bfloat16 for the network's forward pass (autocast), or auto: bfloat16 on CPUs that have instructions
    #: for it (AVX-512 BF16). The loss is always float32.
    precision: str = one_of("float32", "bfloat16", "auto")
    #: Level of white noise that is trained and scored (one model for each level, as in the paper).
    sigma: float = 50
    #: Train on all levels of degradation.sigmas instead, one model for all; scored at `sigma` all the same.
    blind: bool = False
    #: Augmentation: rotations by 90 degrees and vertical flips; horizontal flips are always on.
    rotate: bool = True
    #: Steps between validations and checkpoints; with `minutes` there is one after each tenth of them too.
    validate_every: int = bounded(5000, at_least=1)
    #: Seed of the first weights, the batches and the noise.
    seed: int = bounded(0, at_least=0)
    #: Named protocol of the final score (see docs/protocols.md); null: what fits the data.
    protocol: str | None = None
    #: Most test images that are scored; null: all.
    images: int | None = bounded(None, at_least=1)
    #: Images that are scored: test, or validation (Train V), which leaves the test images closed.
    scored: str = one_of("test", "validation")

    def identity(self) -> dict[str, Any]:
        """What tells trainings apart; settings that came later are named only where they are not at their defaults."""
        own, later = dataclasses.asdict(self), {"beta2": 0.999, "scored": "test"}
        return {key: value for key, value in own.items() if key not in later or later[key] != value}


@dataclass
class Tune:
    """How trials are proposed, stopped and repeated."""

    #: Configurations that are tried.
    trials: int = bounded(16, at_least=1)
    #: Trials of each configuration that differ only in their seed.
    replicates: int = bounded(1, at_least=1)
    #: Seed of the sampler and of the first trial.
    seed: int = bounded(0, at_least=0)
    #: How configurations are proposed: tpe, gp, cmaes, nsga2, random, or grid (docs/tuning.md).
    sampler: str = one_of("tpe", "gp", "cmaes", "nsga2", "random", "grid")
    #: Configurations that are tried first, whole or in part: [{architecture.nodes: 3, ...}, ...] (docs/tuning.md).
    points: list[dict[str, Any]] = field(default_factory=list)
    #: Folder of an earlier study whose best configurations are tried first, or a genotype (a file, or a published one).
    warm_start: str | None = None
    #: Most configurations that are taken over from an earlier study.
    warm_start_count: int = bounded(5, at_least=1)
    #: Any Optuna storage URL, or journal:PATH for a shared file system; null: study.db in the study's folder. The
    #: password may be *** and is then taken from IRNAS_RAY_STORAGE_PASSWORD; it is never written down.
    storage: str | None = None
    #: Minutes to wait for a storage that another process locks, whose disk is full or whose server is away, before the
    #: study stops.
    storage_patience: float = bounded(10, at_least=0)
    #: What configurations are compared by: score (the validation PSNR), and beside it parameters, multiply_adds or
    #: latency (seconds per megapixel, measured on the trial's device). Of several, the Pareto front is sought.
    objectives: list[str] = some_of(("score", "parameters", "multiply_adds", "latency"), "score")
    #: Most parameters of a final network: a configuration with more is refused before it costs anything and does not
    #: count among `trials` (docs/search.md). null: no limit.
    max_parameters: int | None = bounded(None, at_least=1)
    #: Most multiply-adds for each pixel of a final network; as `max_parameters`.
    max_multiply_adds: int | None = bounded(None, at_least=1)
    #: Stop bad configurations early: asynchronous successive halving on the mean over the seeds, or by dominance where
    #: there are several objectives.
    early_stopping: bool = True
    #: Epochs that every configuration gets before it can be stopped; further rungs follow, each later by
    #: reduction_factor.
    grace_epochs: int = bounded(25, at_least=1)
    #: At each rung one of this many configurations continues.
    reduction_factor: int = bounded(3, at_least=2)
    #: Epochs after which the worst trials continue from copies of the best with changed search.weight_lr and arch_lr
    #: (population-based training, docs/tuning.md) instead of being stopped early; null: no population.
    perturb_every: int | None = bounded(None, at_least=1)
    #: How often a trial that died is restarted from its last checkpoint.
    max_failures: int = bounded(3, at_least=0)
    #: Where trials are logged beside TensorBoard: [wandb], [mlflow] or both, as project NAME_OF_THE_STUDY.
    loggers: list[str] = some_of(("wandb", "mlflow"))


@dataclass
class Cluster:
    """What a trial may use."""

    #: Ray address; null: the cluster that RAY_ADDRESS or a running job names, else a new local one; local: always that.
    address: str | None = None
    #: Whether a cluster that is started here has Ray's dashboard, which takes three seconds of a processor.
    dashboard: bool = True
    #: CPUs for each trial, and for each process of a final training.
    cpus_per_trial: int = bounded(1, at_least=1)
    #: GPUs for each trial, whole or fractional; null: one where the cluster has any, else none; auto: the memory of a
    #: search trial is measured, and as many share a GPU as fit (final trainings get a whole one each).
    gpus_per_trial: int | float | str | None = None
    #: Most trials at a time; null: as many as fit.
    max_concurrent: int | None = bounded(None, at_least=1)
    #: Minutes without a forward pass after which a trial's worker counts as hanging, and the trial is started again
    #: from its last checkpoint; null: never.
    hang_minutes: float | None = bounded(30, more_than=0)
    #: Where trials and checkpoints are kept: a folder that all nodes see, or a URL of pyarrow such as s3://bucket/prefix;
    #: null: trials/ in the study's folder.
    storage: str | None = None


@dataclass
class StudyConfig:
    """Everything that `irnas-ray search` can be told.

    >>> import irnas_ray as ir
    >>> settings = ir.StudyConfig(study="mine", data=ir.Data(source="BSD500", form="images"))
    >>> settings.search.epochs, settings.search.batch
    (100, 12)
    """

    #: Name of the study and of its folder; null: the name of the search space.
    study: str | None = None
    #: Folder that holds the studies.
    results: str = "results"
    #: Continue the study of this name.
    resume: bool = False
    #: With resume: also read Tune's records that somebody else wrote, which can run code; on the command line only.
    trust: bool = False
    #: Name of the file in search_spaces/.
    search_space: str = "quickstart"
    #: Most minutes that trials and final trainings may take together: steps are timed first, and if the machine is too
    #: slow trials get fewer; final trainings get what the search has left. null: as many steps as the settings say.
    minutes: float | None = bounded(None, more_than=0)
    architecture: Architecture = field(default_factory=Architecture)
    data: Data = field(default_factory=Data)
    degradation: Degradation = field(default_factory=Degradation)
    search: Search = field(default_factory=Search)
    final: Final = field(default_factory=Final)
    tune: Tune = field(default_factory=Tune)
    cluster: Cluster = field(default_factory=Cluster)
    #: Dotted key of a setting above -> its Optuna distribution, which may have a condition (docs/tuning.md).
    domains: dict[str, Any] = field(default_factory=dict)


Settings = TypeVar("Settings", bound=StudyConfig)


@dataclass
class RetrainConfig(StudyConfig):
    """Everything that `irnas-ray retrain` can be told: a study of final trainings, without a search.

    >>> import irnas_ray as ir
    >>> ir.RetrainConfig(genotype="irnas_denoise").final.steps
    600000
    """

    #: Genotype to train: a file (JSON), or a published one by its name, such as irnas_denoise (docs/tables.md).
    genotype: str = ""
    #: Whose weights are trained: genotype, dncnn, or a class of your own as package.module:Class (docs/training.md).
    network: str = "genotype"
    #: Arguments of a network that no genotype describes, such as {depth: 17, width: 64} for dncnn.
    network_arguments: dict[str, Any] = field(default_factory=dict)
    #: Dotted key of a setting -> values; every combination is trained, all under one protocol and in one table.
    compare: dict[str, Any] = field(default_factory=dict)

    def check_given(self) -> None:
        """WrongSetting unless it is said what is trained."""
        if self.network == "genotype" and not self.genotype:
            raise WrongSetting("genotype: is missing; give it as genotype=FILE, or choose network=NAME")


def with_values(config: Settings, values: Mapping[str, Any]) -> Settings:
    """A copy of the settings with some replaced, given by dotted keys such as ``architecture.nodes``.

    Raises ValueError naming the key and what is possible beside it if there is no such setting.
    """
    changed = copy.deepcopy(config)
    for key, value in values.items():
        *sections, name = key.split(".")
        node: Any = changed
        for section in sections:
            node = getattr(node, section, None)
        if not dataclasses.is_dataclass(node) or name not in (field.name for field in dataclasses.fields(node)):
            known = [field.name for field in dataclasses.fields(node)] if dataclasses.is_dataclass(node) else []
            beside = f"; possible: {', '.join(known)}" if known else "; use a dotted key such as architecture.nodes"
            raise ValueError(f"{key}: there is no such setting{beside}")
        setattr(node, name, value)
    return changed


def settings_of(config: Settings, values: Mapping[str, Any]) -> tuple[Settings, dict[str, str | int]]:
    """The settings of a trial whose configuration has these values and ``seed``, and the genes of its genotype.

    Without a genotype there are none. Raises ValueError as ``with_values``.
    """
    genes = {key: value for key, value in values.items() if key.startswith(GENES)}
    return with_values(config, {key: values[key] for key in values.keys() - genes.keys() - {"seed"}}), genes


def short_values(values: Mapping[str, Any]) -> str:
    """Values under the last part of their dotted keys, or under the whole key where two would look the same."""
    last = Counter(key.rpartition(".")[2] for key in values)
    parts = []
    for key, value in values.items():
        if key.startswith(GENES):
            # a genotype is shown as such
            continue
        name = key.rpartition(".")[2]
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        parts.append(f"{name if last[name] == 1 else key}={shown}")
    return ", ".join(parts)
