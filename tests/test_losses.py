import numpy as np
import torch

from skae._losses import LOSSES


def test_squared_error_is_the_mean_squared_distance_of_rows():
    x, x_hat = np.random.default_rng(0).normal(size=(2, 6, 4))
    expected = np.mean([np.linalg.norm(a - b) ** 2 for a, b in zip(x, x_hat, strict=True)])
    loss = LOSSES["mse"]()(torch.from_numpy(x_hat), torch.from_numpy(x))
    np.testing.assert_allclose(loss, expected)
