from .callback import StageProgress as StageProgress
from .live_table import LiveTable as LiveTable
from .stage_state import StageState as StageState
