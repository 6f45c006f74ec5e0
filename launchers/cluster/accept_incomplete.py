"""accept_incomplete.py LAUNCHER [SETTING...]: the launcher, but with status 0 where a study is finished with failures.

Machinery that starts a failed command again would only repeat them. The launcher runs in this very process, so that
each signal comes to it once: `ray job stop` sends it to every process of a job, and a second one ends a study at once.
"""

import runpy
import sys

from irnas_ray.system.exit_status import INCOMPLETE

if __name__ == "__main__":
    del sys.argv[0]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as ended:
        if ended.code != INCOMPLETE:
            raise
        print(f"ends with status 0 instead of {INCOMPLETE}, so that it is not started again", flush=True)
