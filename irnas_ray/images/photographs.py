"""The photographs that come with scikit-image: data at hand without a download."""

from pathlib import Path

import skimage

_PHOTOGRAPHS = {
    "astronaut": "astronaut.png",
    "brick": "brick.png",
    "camera": "camera.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "coins": "coins.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "moon": "moon.png",
    "motorcycle_left": "motorcycle_left.png",
    "rocket": "rocket.jpg",
}
#: Embedded photographs that only test: an animal, a still life, a texture; no scene is on both sides.
HELD_OUT_PHOTOGRAPHS = ("chelsea", "coffee", "gravel")


def photograph_files() -> dict[str, Path]:
    """Name -> file of each photograph inside the scikit-image package; ValueError if the package lacks one."""
    # skimage.data's functions may download; these files are part of the wheel.
    folder = Path(skimage.__file__).parent / "data"
    files = {name: folder / file for name, file in _PHOTOGRAPHS.items()}
    missing = [name for name, file in files.items() if not file.is_file()]
    if missing:
        raise ValueError(f"{folder}: scikit-image was installed without {', '.join(missing)}; reinstall it")
    return files
