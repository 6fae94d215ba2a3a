import torch

from skae._nn.autoencoders import PlainAutoencoder, ResidualAutoencoder
from skae._nn.layers import perceptron
from skae._nn.losses import SquaredError


def residual(scale, k=3):
    r = len(scale)
    return ResidualAutoencoder(
        scale, k, perceptron([r, 8, k], "gelu"), perceptron([k, 8, r], "gelu")
    )


def test_a_fresh_residual_autoencoder_is_pca():
    y = torch.randn(5, 7)
    module = residual(torch.rand(7) + 0.5)
    assert torch.equal(module.encode(y), y[:, :3])
    y_hat = module(y)
    assert torch.equal(y_hat[:, :3], y[:, :3])
    assert not y_hat[:, 3:].any()


def test_scaling_the_data_and_the_scale_scales_codes_and_reconstructions():
    y, scale = torch.randn(5, 7), torch.rand(7) + 0.5
    module = residual(scale)
    for network in (module.encoder, module.decoder):
        torch.nn.init.normal_(network[-1].weight)
    z, y_hat = module.encode(y), module(y)
    module.scale *= 1000
    torch.testing.assert_close(module.encode(1000 * y), 1000 * z, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(module(1000 * y), 1000 * y_hat, rtol=1e-4, atol=1e-2)


def test_the_plain_autoencoder_stays_in_the_range_of_its_activation():
    module = PlainAutoencoder(
        2,
        perceptron([6, 2], "relu"),
        perceptron([2, 6], "relu"),
        SquaredError(),
        activation="sigmoid",
    )
    x_hat = module(100 * torch.randn(50, 6))
    assert (x_hat >= 0).all()
    assert (x_hat <= 1).all()
