from .environment import hardware as hardware
from .environment import versions as versions
from .exit_status import Incomplete as Incomplete
from .files import write_json as write_json
from .files import write_text as write_text
from .worker_pool import WorkerKilled as WorkerKilled
from .worker_pool import run_tasks as run_tasks
