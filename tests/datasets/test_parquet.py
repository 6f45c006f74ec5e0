"""Prepared folders of others: their Parquet files are data, whatever types their columns say they are of."""

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data  # noqa: F401  registers its types of columns with pyarrow
from PIL import Image

from irnas_ray.datasets.builder import prepare
from irnas_ray.datasets.check import _prepared
from irnas_ray.datasets.manifest import MANIFEST, Manifest
from irnas_ray.datasets.parquet import check_columns
from irnas_ray.datasets.reader import read_rows, select
from irnas_ray.datasets.whole_images import load_images
from irnas_ray.settings.study import Data

PICKLES = "ray.data.arrow_pickled_object"


class Code:
    """What runs when it is unpickled."""

    def __init__(self, ran: Path) -> None:
        self.ran = ran

    def __reduce__(self):
        return Path.touch, (self.ran,)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    for index in range(4):
        Image.fromarray(np.full((32, 32), 40 * index, np.uint8)).save(tmp_path / "source" / f"{index}.png")
    return prepare(Data(source=str(tmp_path / "source"), form="images", patch=16), tmp_path / "out")


@pytest.mark.parametrize("column", ["image_id", "clean"])
def test_pickles_in_a_column_are_not_read(folder: Path, tmp_path: Path, column: str) -> None:
    (path,) = (folder / "images").iterdir()
    table, size = pq.read_table(path), path.stat().st_size
    ran = tmp_path / "ran"
    kind = pa.large_binary()
    values = pa.array([pickle.dumps(Code(ran))] * len(table), kind)
    place = table.column_names.index(column)
    named = pa.field(column, kind, metadata={"ARROW:extension:name": PICKLES, "ARROW:extension:metadata": ""})
    pq.write_table(table.set_column(place, named, values), path)
    manifest_file = folder / MANIFEST
    manifest_file.write_text(manifest_file.read_text().replace(str(size), str(path.stat().st_size)))
    # the threat is there, where the type is registered
    pq.read_table(path)[column].to_pylist()
    assert ran.exists()
    ran.unlink()
    manifest = Manifest.load(folder)
    ids = [image.image_id for image in manifest.images]
    for read in (lambda: load_images(folder, ids), lambda: select(folder, manifest, ids), lambda: _prepared(folder)):
        with pytest.raises(ValueError, match=f"{folder}.*column {column!r} is of type .*prepare it anew"):
            read()
    assert not ran.exists()


def test_extension_types_are_found_wherever_they_are(folder: Path) -> None:
    (path,) = (folder / "images").iterdir()
    read_rows([path])
    strange = pa.uuid()
    for kind in (strange, pa.list_(strange), pa.struct([("a", pa.list_(strange))]), pa.map_(pa.string(), strange)):
        with pytest.raises(ValueError, match="file: column 'b' is of type"):
            check_columns(pa.schema([("a", pa.int64()), ("b", kind)]), "file")
    check_columns(pa.schema([("a", pa.dictionary(pa.int8(), pa.string())), ("b", pa.list_(pa.int8()))]), "file")
