from math import prod

import pytest
import torch

from skae._nn.autoencoders import LinearPathAutoencoder
from skae._nn.conv import (
    Fold,
    Layout,
    Unfold,
    conv_decoder,
    conv_encoder,
    conv_refiner,
    stage_extents,
)

LAYOUTS = [
    Layout((28, 28)),
    Layout((32, 32, 3), 2),
    Layout((3, 33, 20), 0),
    Layout((7, 4, 5), 1),
    Layout((1, 9)),
    Layout((1,)),
    Layout((101,)),
    Layout((2, 50), 0),
    Layout((50, 2), 1),
]


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_folding_undoes_unfolding(layout):
    x = torch.rand(4, prod(layout.shape))
    pictures = Unfold(layout)(x)
    assert pictures.shape == (4, layout.n_channels, *layout.extents)
    assert torch.equal(Fold(layout)(pictures), x)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("bottleneck", ["dense", "channels", "map"])
def test_every_extent_is_restored(layout, kernel_size, bottleneck):
    channels = (4, 6)
    length = prod(stage_extents(layout.extents, 2)[-1]) if bottleneck == "map" else 3
    architecture = {
        "channels": channels,
        "kernel_size": kernel_size,
        "bottleneck": bottleneck,
        "hidden_layer_sizes": (8, 7) if bottleneck == "dense" else (),
    }
    x = torch.rand(5, prod(layout.shape))
    z = conv_encoder(layout, length, **architecture)(x)
    assert z.shape == (5, length)
    assert conv_decoder(layout, length, **architecture)(z).shape == x.shape
    assert conv_refiner(layout, 4)(x).shape == x.shape


@pytest.mark.parametrize("extents", [(5, 2), (1, 9), (3,)], ids=str)
def test_gradients_in_bfloat16_are_those_of_float32_but_for_rounding(extents):
    layout = Layout(extents)
    architecture = {"channels": (16, 32, 32), "kernel_size": 3}
    encoder, decoder = (make(layout, 3, **architecture) for make in (conv_encoder, conv_decoder))
    networks = [torch.nn.Sequential(encoder, decoder), conv_refiner(layout, 32)]
    x = torch.rand(32, prod(extents))
    for network in networks:

        def gradients(bfloat16, network=network):
            network.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16, cache_enabled=False):
                (network(x).float() - x).square().mean().backward()
            return torch.cat([weights.grad.flatten() for weights in network.parameters()])

        exact = gradients(False)
        for _ in range(8):
            # What memory that is free holds must not matter.
            written = [torch.full((1000 * size,), 1e9) for size in range(1, 9)]
            del written
            assert (gradients(True) - exact).norm() < 0.1 * exact.norm()


def autoencoder(k=3):
    layout = Layout((6, 5))
    directions = torch.linalg.qr(torch.randn(30, k)).Q
    return LinearPathAutoencoder(
        torch.randn(30),
        directions,
        torch.rand(k) + 0.5,
        conv_encoder(layout, k, channels=(4,)),
        conv_decoder(layout, k, channels=(4,)),
        conv_refiner(layout, 4),
    )


def test_a_fresh_linear_path_is_pca():
    module, x = autoencoder(), torch.randn(5, 30)
    z = (x - module.mean) @ module.directions
    assert torch.equal(module.encode(x), z)
    assert torch.equal(module.decode(z), module.mean + z @ module.directions.T)


def test_in_bfloat16_the_linear_path_stays_exact():
    module, x = autoencoder(), torch.randn(5, 30)
    codes = (x - module.mean) @ module.directions
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module.encode(x), codes)
