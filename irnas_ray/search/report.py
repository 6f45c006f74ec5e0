"""What a search reports after a validation, and what it comes to."""

from dataclasses import dataclass, field

from irnas_ray.genotypes.decoding import Margin
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.search.health import Health


@dataclass(frozen=True)
class SearchReport:
    """Where a search stands after a validation; ``genotype`` is that of the best validation so far."""

    epoch: int
    psnr: float
    ssim: float
    weight_loss: float
    arch_loss: float
    best_psnr: float
    best_ssim: float
    genotype: Genotype
    margins: list[Margin]
    seconds: float
    #: Most images that are computed at a time; None where whole batches fit into memory.
    micro_batch: int | None = None
    #: What alpha and beta say now.
    health: Health | None = None


@dataclass
class SearchResult:
    """What a search found: the genotype of its best validation after warm-up, and all reports."""

    genotype: Genotype
    margins: list[Margin]
    psnr: float
    ssim: float
    seconds: float
    #: As in the reports.
    micro_batch: int | None = None
    reports: list[SearchReport] = field(default_factory=list)
    #: The health of the search at that validation; None where an earlier release saw it.
    health: Health | None = None
