"""Restore your own image, or a folder of images, with a network.pt.

python launchers/restore.py network=results/quickstart/finals/1/network.pt input=photo.jpg output=restored
"""

from irnas_ray.command_settings import RestoreConfig
from irnas_ray.conf.command_line import run
from irnas_ray.scoring import restore_images

if __name__ == "__main__":
    run("restore", RestoreConfig, restore_images, __doc__ or "")
