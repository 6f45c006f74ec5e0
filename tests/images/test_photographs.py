"""The photographs that need no download."""

from irnas_ray.images.files import read_header, read_image
from irnas_ray.images.photographs import HELD_OUT_PHOTOGRAPHS, photograph_files


def test_photographs_come_with_the_package() -> None:
    files = photograph_files()
    assert len(files) == 11 and set(HELD_OUT_PHOTOGRAPHS) < set(files)
    pixels = {name: read_image(path, "gray" if read_header(path).gray else "rgb") for name, path in files.items()}
    assert pixels["camera"].shape == (512, 512, 1) and pixels["chelsea"].shape == (300, 451, 3)
    assert all(image.std() > 10 for image in pixels.values())
