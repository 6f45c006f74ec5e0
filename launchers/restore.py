"""Restore your own image, or a folder of images, with a network.pt.

python launchers/restore.py network=results/quickstart/finals/1/network.pt input=photo.jpg output=restored
"""

from irnas_ray.cli.command_line import run
from irnas_ray.evaluation.commands import restore_images
from irnas_ray.settings.commands import RestoreConfig

if __name__ == "__main__":
    run("restore", RestoreConfig, restore_images, __doc__ or "")
