"""scikit-learn's contract, as scikit-learn itself checks it."""

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from skae import ByteBigrams, ConvAutoencoder, DenseAutoencoder
from skae._estimators.auto import resolve_linear_path
from skae._version import DOCUMENTATION

EQUIVALENCE = (
    "check_sample_weight_equivalence_on_dense_data",
    "check_sample_weight_equivalence_on_sparse_data",
)


def expected_failures(estimator):
    """Where a row that is repeated and one that weighs as much cannot be the same."""
    if not resolve_linear_path(estimator):
        return dict.fromkeys(EQUIVALENCE, "repeated rows meet the network in other batches")
    if estimator.latent_dim is None:
        return dict.fromkeys(EQUIVALENCE, "latent_dim=None depends on the number of rows")
    return {}


# One or two epochs on twenty rows may well end behind PCA, and say so.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    [
        DenseAutoencoder(),
        # Enough validation rows, of the few that the checks have, for the networks to take part.
        DenseAutoencoder(2, hidden_layer_sizes=(8,), max_epochs=2, validation_fraction=0.5),
        DenseAutoencoder(
            2, truncations="auto", hidden_layer_sizes=(8,), max_epochs=2, validation_fraction=0.5
        ),
        DenseAutoencoder(hidden_layer_sizes=(8,), penalty="variational", max_epochs=1),
        DenseAutoencoder(2, whiten=True, hidden_layer_sizes=()),
        DenseAutoencoder(missing_values=np.nan),
        DenseAutoencoder(
            linear_path=False, hidden_layer_sizes=(8,), max_epochs=1, missing_values=np.nan
        ),
        ConvAutoencoder(),
        ConvAutoencoder(2, channels=(4,), max_epochs=2, validation_fraction=0.5),
        ConvAutoencoder(linear_path=False, channels=(4,), max_epochs=1),
    ],
    expected_failed_checks=expected_failures,
)
def test_scikit_learn_checks(estimator, check, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # else the check of array API input is skipped
    check(estimator)


@pytest.mark.parametrize("estimator", [DenseAutoencoder(2, hidden_layer_sizes=()), ByteBigrams()])
def test_the_diagram_of_a_notebook_links_to_the_documentation(estimator):
    page = f"{DOCUMENTATION}/en/stable/api/skae.{type(estimator).__name__}.html"
    assert f'href="{page}"' in estimator._repr_html_()


def test_the_diagram_of_a_notebook_tells_what_is_fitted():
    estimator = DenseAutoencoder(2, hidden_layer_sizes=())
    assert "<span>Not fitted</span>" in estimator._repr_html_()
    fitted = estimator.fit(np.eye(4))
    assert "<span>Fitted</span>" in fitted._repr_html_()
    assert repr(fitted) == "DenseAutoencoder(hidden_layer_sizes=(), latent_dim=2)"
