"""Restore your own image, or a folder of images: the same as `irnas-ray restore`.

python launchers/restore.py network=results/quickstart/finals/1/network.pt input=photo.jpg output=restored
"""

import sys

from irnas_ray.__main__ import main

if __name__ == "__main__":
    main(["restore", *sys.argv[1:]])
