"""Fitted directions and networks stay on a device between calls, and nowhere else."""

import gc
import pickle
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import pytest
import torch

from skae import DenseAutoencoder

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture
def model(digits, quick):
    return quick(8, device="cuda", max_epochs=3).fit(digits[0][:600])


def codec(model):
    return vars(model._state).get("_codec", [None])[-1]


def test_a_codec_is_kept_for_one_device(model, digits):
    assert codec(model) is None
    Z = model.transform(digits[1])
    first = codec(model)
    model.score(digits[1])
    model.inverse_transform(Z)
    assert codec(model) is first
    if torch.cuda.device_count() > 1:
        model.set_params(device="cuda:1").transform(digits[1])
        assert codec(model).mean.device == torch.device("cuda:1")
    model.set_params(device="cpu").transform(digits[1])


def test_what_changes_the_state_drops_the_codec(model, digits):
    model.transform(digits[1])
    before = codec(model)
    assert codec(model.truncate(8)) is before
    short = DenseAutoencoder(8, hidden_layer_sizes=(), device="cuda").fit(digits[0])
    short.transform(digits[1])
    assert short.truncate(3).transform(digits[1]).shape[1] == 3
    short.partial_fit(digits[1])
    assert codec(short) is None
    model.fit(digits[0][:500])
    assert codec(model) is None


def test_weights_that_are_changed_in_place_are_used(model, digits):
    before = model.transform(digits[1])
    with torch.no_grad():
        for weight in model.module_.parameters():
            weight.mul_(1.5)
    changed = model.transform(digits[1])
    assert not np.allclose(changed, before)
    np.testing.assert_allclose(
        changed, model.set_params(device="cpu").transform(digits[1]), atol=1e-3
    )


def test_copies_and_pickles_have_no_codec(model, digits):
    fresh = len(pickle.dumps(model))
    Z = model.transform(digits[1])
    assert len(pickle.dumps(model)) == fresh
    for other in (pickle.loads(pickle.dumps(model)), deepcopy(model)):
        assert codec(other) is None
        np.testing.assert_array_equal(other.transform(digits[1]), Z)
    state = pickle.loads(pickle.dumps(model._state))
    assert "_codec" not in vars(state)


def test_threads_share_one_codec(model, digits):
    expected = DenseAutoencoder.transform(deepcopy(model), digits[1])
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: (model.transform(digits[1]), codec(model)), range(16)))
    assert len({id(codec) for _, codec in found}) == 1
    for Z, _ in found:
        np.testing.assert_array_equal(Z, expected)


def test_the_memory_is_free_when_the_model_is_gone(digits, quick):
    gc.collect()
    before = torch.cuda.memory_allocated()
    model = quick(8, device="cuda", max_epochs=1).fit(digits[0])
    model.transform(digits[1])
    assert torch.cuda.memory_allocated() > before
    del model
    gc.collect()
    assert torch.cuda.memory_allocated() <= before
