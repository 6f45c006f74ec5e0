"""Imported first by the workers of a cluster that a study starts: large imports follow, mostly for a trial.

A training collects as usual again; what else works there makes little garbage.
"""

from irnas_ray.system.imports import collect_rarely

collect_rarely()
