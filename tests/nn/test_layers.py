import pytest
import torch
from torch import nn

from skae._nn.conv import Layout, conv_decoder
from skae._nn.layers import Corruption, Dropout, initialised, use_generator


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (nn.Linear, (50, 20)),
        (nn.Conv2d, (4, 6, 3)),
        (nn.ConvTranspose1d, (4, 6, 5)),
        (conv_decoder, (Layout((12, 12)), 4)),
    ],
)
def test_initial_weights_equal_those_of_torch(make, arguments):
    options = {"channels": (8, 16)} if make is conv_decoder else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        expected = make(*arguments, **options).state_dict()
    network = initialised(torch.Generator().manual_seed(3), make, *arguments, **options)
    for name, weight in network.state_dict().items():
        torch.testing.assert_close(weight, expected[name])


def test_dropout_keeps_the_mean_and_stops_after_training():
    dropout, x = Dropout(0.25), torch.ones(200, 200)
    with use_generator(torch.Generator().manual_seed(0), dropout):
        y = dropout(x)
    torch.testing.assert_close(y.unique(), torch.tensor([0.0, 4 / 3]))
    assert y.mean() == pytest.approx(1, abs=0.02)
    assert torch.equal(dropout.eval()(x), x)


def test_corruption_masks_a_share_adds_noise_and_stops_after_training():
    corruption, x = Corruption(0.25, 0.5), torch.full((200, 200), 10.0)
    with use_generator(torch.Generator().manual_seed(0), corruption):
        y = corruption(x)
    assert (y == 0).float().mean() == pytest.approx(0.25, abs=0.01)
    assert y[y != 0].mean() == pytest.approx(10, abs=0.02)
    assert y[y != 0].std() == pytest.approx(0.5, rel=0.02)
    assert torch.equal(corruption.eval()(x), x)
