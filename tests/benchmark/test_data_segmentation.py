"""ImageNet-Segmentation: its MATLAB file, with what a hostile one may hold, and a plain folder."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from captum_ib import extras
from captum_ib.benchmark import DataConfig, UnreadableSampleError, open_data
from tests.benchmark.data_models import model


def data(path, loaded=None, **options):
    return open_data(DataConfig("segmentation", str(path), options), loaded or model())


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (4, 5, 3), dtype=np.uint8) for _ in range(2)]
    masks = [rng.random((4, 5)) < 0.4 for _ in range(2)]
    return images, masks


@pytest.fixture
def h5py():
    return pytest.importorskip("h5py", reason="h5py is not installed")


@pytest.fixture
def mat(tmp_path, pictures, h5py):
    """A file as MATLAB writes it: cells of references, arrays with columns first."""
    path, (images, masks) = tmp_path / "gtsegs_ijcv.mat", pictures
    with h5py.File(path, "w") as file:
        kind = h5py.ref_dtype
        cells = {name: file.create_dataset(f"value/{name}", (2, 1), kind) for name in ("img", "gt")}
        for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
            stored = file.create_dataset(
                f"#refs#/i{number}", data=image.transpose(2, 1, 0), compression="gzip"
            )
            truth = file.create_dataset(f"#refs#/m{number}", data=mask.T.astype(np.uint8))
            inner = file.create_dataset(f"#refs#/c{number}", (1, 1), kind)
            inner[0, 0] = truth.ref
            cells["img"][number, 0], cells["gt"][number, 0] = stored.ref, inner.ref
    return path


def test_the_file_as_it_is_distributed(mat, pictures):
    found = data(mat, shuffle=None)
    assert len(found) == 2 and found.id(1) == "00001"
    for number, (image, mask) in enumerate(zip(*pictures, strict=True)):
        sample = found.read(number)
        assert (np.asarray(sample.image) == image).all() and (sample.mask == mask).all()
        assert sample.label is None  # the likeliest class


def test_a_dual_encoder_needs_names(mat):
    with pytest.raises(ValueError, match="names no classes, so there is no caption"):
        data(mat, model("dual"), caption="a {label}")


def test_the_file_needs_h5py(mat, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(extras, "import_module", missing)
    with pytest.raises(extras.MissingExtraError, match=r"pip install 'captum_ib\[hdf5\]'"):
        data(mat)


def reason(found, number=0):
    with pytest.raises(UnreadableSampleError) as caught:
        found.read(number)
    return caught.value.reason


def test_links_that_lead_out_are_not_followed(mat, tmp_path, h5py):
    outside = tmp_path / "outside.h5"
    mat.rename(outside)
    for link in (h5py.ExternalLink(str(outside), "/value"), h5py.SoftLink("/other")):
        with h5py.File(mat, "w") as file:
            file["value"] = link
        with pytest.raises(ValueError, match="value/img is a link that may lead out of the file"):
            data(mat)


def test_data_in_other_files_are_not_read(mat, tmp_path, h5py):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(60))
    with h5py.File(mat, "r+") as file:
        raw = file.create_dataset(
            "raw", (3, 5, 4), np.uint8, external=[(str(secret), 0, h5py.h5f.UNLIMITED)]
        )
        file["value/img"][0, 0] = raw.ref
        layout = h5py.VirtualLayout((3, 5, 4), np.uint8)
        layout[:] = h5py.VirtualSource(str(secret), "x", (3, 5, 4))
        file["value/img"][1, 0] = file.create_virtual_dataset("virtual", layout).ref
    found = data(mat, shuffle=None)
    assert reason(found, 0) == reason(found, 1) == "its data lie in another file"


def test_sizes_are_looked_at_first(mat, h5py):
    with h5py.File(mat, "r+") as file:  # 3 · 10¹² values that no byte of the file holds
        huge = file.create_dataset("huge", (3, 10**6, 10**6), np.uint8, chunks=(1, 64, 64))
        wide = file.create_dataset(
            "wide", (3, 5, 4), np.uint8, maxshape=(3, None, None), chunks=(1, 2**15, 2**15)
        )
        file["value/img"][0, 0], file["value/img"][1, 0] = huge.ref, wide.ref
    found = data(mat, shuffle=None, max_pixels=100)
    assert "it has 3000000000000 values" in reason(found, 0)
    assert "in chunks of 1073741824" in reason(found, 1)


def test_what_is_no_image(mat, h5py):
    with h5py.File(mat, "r+") as file:
        file["value/img"][0, 0] = file.create_dataset("text", data="not pixels").ref
        file["value/img"][1, 0] = file.create_dataset("wrong", data=np.ones((3, 4, 5), "u1")).ref
    found = data(mat, shuffle=None)
    assert "values in chunks" in reason(found, 0) or "it holds object" in reason(found, 0)
    assert reason(found, 1).startswith("the mask is (5, 4), the image (4, 5)")
    with h5py.File(mat, "r+") as file:
        file["#refs#/m0"][:] = 0
        file["value/img"][0, 0] = file["#refs#/i0"].ref
        file["value/img"][1, 0] = file["value"].ref
    found = data(mat, shuffle=None)
    assert reason(found, 0) == "the mask is empty" and reason(found, 1) == "it is no dataset"


def test_what_is_no_such_file(tmp_path, h5py):
    path = tmp_path / "a.mat"
    path.write_bytes(b"MATLAB 5.0 MAT-file" * 9)
    with pytest.raises(ValueError, match="can't be read as HDF5"):
        data(path)
    with h5py.File(path, "w") as file:
        file["value/img"] = 3
    with pytest.raises(ValueError, match="is no ImageNet-Segmentation"):
        data(path)


def test_a_cut_file_is_the_matter_of_its_samples(mat):
    whole = mat.read_bytes()
    for length in range(100, len(whole), 211):
        mat.write_bytes(whole[:length])
        try:
            found = data(mat)
            for number in range(len(found)):
                found.read(number)
        except ValueError:
            continue


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


@pytest.fixture
def folder(tmp_path, pictures):
    images, masks = pictures
    for name, image, mask in zip(("cat/a", "dog/b"), images, masks, strict=True):
        save(tmp_path / "images" / f"{name}.png", image)
        save(tmp_path / "masks" / f"{name}.png", mask.astype(np.uint8) * 255)
    return tmp_path


def test_a_folder_by_class(folder, pictures):
    found = data(folder, shuffle=None)
    samples = [found.read(number) for number in range(2)]
    assert [(sample.id, sample.label) for sample in samples] == [("cat/a.png", 0), ("dog/b.png", 1)]
    for sample, image, mask in zip(samples, *pictures, strict=True):
        assert (np.asarray(sample.image) == image).all() and (sample.mask == mask).all()
    assert data(folder, labels="none", shuffle=None).read(1).label is None
    pair = data(folder, model("dual"), caption="a {label}", shuffle=None).read(1)
    assert (pair.caption, pair.label) == ("a dog", "dog")


def test_a_folder_without_classes(folder, pictures):
    save(folder / "images/c.png", pictures[0][0])
    save(folder / "masks/c.png", pictures[1][0].astype(np.uint8))
    assert data(folder, shuffle=None).read(1).label is None
    with pytest.raises(ValueError, match="labels is names, but images lie in"):
        data(folder, labels="names")
    with pytest.raises(ValueError, match="has no folder for each class"):
        data(folder, model("dual"), caption="a {label}")


def test_faults_of_a_folder(folder, pictures, tmp_path_factory):
    save(folder / "masks/cat/a.png", np.zeros((4, 5), np.uint8))
    (folder / "masks/dog/b.png").unlink()
    found = data(folder, shuffle=None)
    assert reason(found, 0) == "the mask is empty"
    assert reason(found, 1).endswith("masks/dog/b.png is missing")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    save(elsewhere / "x.png", pictures[0][0])
    (folder / "images/cat/link").symlink_to(elsewhere, target_is_directory=True)
    assert len(data(folder)) == 2  # links to folders are not followed
    with pytest.raises(FileNotFoundError, match="has no folder images"):
        data(elsewhere)
