"""Turn images into a Parquet data set, or only check them: the same as `irnas-ray prepare`.

python launchers/prepare.py data=halves data.source=rain800 data.output=prepared/rain800
"""

import sys

from irnas_ray.__main__ import main

if __name__ == "__main__":
    main(["prepare", *sys.argv[1:]])
