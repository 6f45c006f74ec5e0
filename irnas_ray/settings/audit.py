"""Every setting of an audit: those of the searches that it runs, and how many of what it compares; as in ``study``."""

from dataclasses import dataclass, field

from irnas_ray.settings.bounds import bounded, one_of
from irnas_ray.settings.study import StudyConfig


@dataclass
class AuditSize:
    """How much an audit runs (docs/audit.md)."""

    #: Whole runs of the search, and as many of random search; fewer than 5 can show nothing.
    runs: int = bounded(5, at_least=1)
    #: Trainings of every network that is judged, which differ in their seed only; with 1 nothing is known of seeds.
    seeds: int = bounded(3, at_least=1)
    #: Networks that are sampled uniformly, near the multiply-adds of those that the search finds.
    networks: int = bounded(8, at_least=2)
    #: Networks that are one edit away from the best that the search finds.
    mutants: int = bounded(4, at_least=0)
    #: What networks are judged on: test, opened once, after the last training; or validation (Train V), by which all
    #: were also chosen, and which leaves the test images closed while a method is developed.
    images: str = one_of("test", "validation")
    #: Factor of the lengths of all searches and trainings, in steps; 0.02 only shows that everything runs.
    budget: float = bounded(1.0, more_than=0)


@dataclass
class AuditConfig(StudyConfig):
    """Everything that `irnas-ray audit` can be told; the settings of a study are those of each of its searches.

    >>> import irnas_ray as ir
    >>> ir.settings.AuditConfig().audit.runs
    5
    """

    audit: AuditSize = field(default_factory=AuditSize)
