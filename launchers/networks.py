"""List the networks that ship with this package: the same as `irnas-ray networks`.

python launchers/networks.py network=gray-noise
"""

import sys

from irnas_ray.__main__ import main

if __name__ == "__main__":
    main(["networks", *sys.argv[1:]])
