"""Activation statistics against numpy over all the data at once; merging, padding, files."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from captum_ib.bottleneck import ActivationStatistics


@pytest.fixture
def data():
    return torch.randn(50, 4, 3, generator=torch.Generator().manual_seed(0)) * 3 + 100


def filled(*batches, mask=None):
    statistics = ActivationStatistics()
    for batch in batches:
        statistics.update("layer", batch, mask)
    return statistics


def test_batches_give_the_moments_of_all_data(data):
    statistics = filled(*data.split([7, 1, 30, 12]))
    reference = data.double().numpy()
    assert statistics.count("layer") == 50
    np.testing.assert_allclose(statistics.mean("layer"), reference.mean(0), rtol=1e-6)
    np.testing.assert_allclose(statistics.std("layer"), reference.std(0), rtol=1e-5)


def test_merge_in_any_order_equals_one_pass(data):
    parts = [filled(part) for part in data.split(17)]
    whole = filled(data)
    for order in (parts, parts[::-1]):
        merged = ActivationStatistics.merge_all(order)
        assert torch.allclose(merged.mean("layer"), whole.mean("layer"), rtol=1e-6)
        assert torch.allclose(merged.std("layer"), whole.std("layer"), rtol=1e-5)
    assert parts[0].count("layer") == 17


def test_padding_does_not_count(data):
    mask = torch.rand(50, 4, generator=torch.Generator().manual_seed(1)) > 0.4
    padded = data.clone()
    padded[~mask] = 1e6
    statistics = filled(padded, mask=mask)
    for position in range(4):
        valid = data[mask[:, position], position].double().numpy()
        np.testing.assert_allclose(statistics.mean("layer")[position], valid.mean(0), rtol=1e-6)
        np.testing.assert_allclose(statistics.std("layer")[position], valid.std(0), rtol=1e-4)


def test_a_position_that_is_never_reached_takes_the_others_statistics(data):
    mask = torch.tensor([True, True, True, False]).expand(50, 4)
    statistics = filled(data, mask=mask)
    pooled = data[:, :3].double().numpy().reshape(-1, 3)
    np.testing.assert_allclose(statistics.mean("layer")[3], pooled.mean(0), rtol=1e-6)
    np.testing.assert_allclose(statistics.std("layer")[3], pooled.std(0), rtol=1e-4)


def test_a_neuron_that_does_not_vary_has_the_least_std():
    statistics = filled(torch.full((5, 2), 3.0))
    assert statistics.std("layer").tolist() == pytest.approx([0.01, 0.01])


def test_dead_neurons():
    batch = torch.zeros(200, 3)
    batch[:, 0], batch[0, 1] = 1.0, 1.0
    assert filled(batch).active("layer").tolist() == [True, False, False]


def test_save_and_load(tmp_path, data):
    statistics = filled(data)
    path = tmp_path / "statistics.safetensors"
    statistics.save(path)
    loaded = ActivationStatistics.load(path)
    assert loaded.count("layer") == 50
    assert torch.equal(loaded.mean("layer"), statistics.mean("layer"))
    assert torch.equal(loaded.std("layer"), statistics.std("layer"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["statistics.safetensors"]


def test_files_that_are_not_ours_are_refused(tmp_path):
    other = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(1)}, other)
    with pytest.raises(ValueError, match="does not hold activation statistics"):
        ActivationStatistics.load(other)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not a file of that kind")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        ActivationStatistics.load(broken)


def test_a_file_that_contradicts_its_header_is_refused(tmp_path, data):
    path = tmp_path / "statistics.safetensors"
    filled(data).save(path)
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key)[:2] for key in file.keys()}  # noqa: SIM118
    save_file(tensors, path, metadata)
    with pytest.raises(ValueError, match="contradicts its header at layer 'layer'"):
        ActivationStatistics.load(path)


def test_mismatches_are_errors(data):
    statistics = filled(data)
    with pytest.raises(ValueError, match=r"shape \(4, 3\), given \(4, 2\)"):
        statistics.update("layer", data[..., :2])
    with pytest.raises(ValueError, match=r"shape \(4, 3\), given \(9, 3\)"):
        statistics.require("layer", (9, 3))
    with pytest.raises(ValueError, match="no statistics for layer 'other'; these hold"):
        statistics.mean("other")
    other = ActivationStatistics()
    other.update("another", data)
    with pytest.raises(ValueError, match="can't merge statistics of layers"):
        statistics.merge(other)
    with pytest.raises(ValueError, match="come from 1 input"):
        filled(data[:1]).require("layer", (4, 3))
    with pytest.raises(ValueError, match="hold NaN or inf"):
        filled(torch.tensor([[float("nan")]]))
    with pytest.raises(ValueError, match="no statistics to merge"):
        ActivationStatistics.merge_all([])
