"""Write a network in a format of other tools: the same as `irnas-ray export`.

python launchers/export.py network=results/quickstart/finals/1/network.pt format=onnx output=network.onnx
"""

import sys

from irnas_ray.__main__ import main

if __name__ == "__main__":
    main(["export", *sys.argv[1:]])
