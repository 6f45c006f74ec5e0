"""Ask whether a search was worth its time: the same as `irnas-ray audit`.

python launchers/audit.py data=images data.source=BSD500 audit.images=validation study=mine
"""

import sys

from irnas_ray.__main__ import main

if __name__ == "__main__":
    main(["audit", *sys.argv[1:]])
