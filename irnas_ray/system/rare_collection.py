"""Imported first by the workers of a cluster that a study starts: their own imports follow, mostly for a trial."""

from irnas_ray.system.imports import collect_rarely

collect_rarely()
