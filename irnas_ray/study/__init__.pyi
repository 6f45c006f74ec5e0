from .retraining import run_retraining as run_retraining
from .study import run_study as run_study
