"""Names that other libraries have for parameters: a sentence says which of ours is meant."""

import inspect
import pickle

import pytest
from sklearn.base import clone

from skae import AnomalyDetector, ConvAutoencoder, DenseAutoencoder

KINDS = [DenseAutoencoder, ConvAutoencoder]
SENTENCES = {
    "n_components": "it is called latent_dim here",
    "lr": "it is called learning_rate here",
    "svd_solver": "needs none: the solver for the principal directions follows",
    "n_iter": "the number of epochs is called max_epochs",
    "latent_dims": "did you mean latent_dim?",
    "colour": "its parameters are activation, alpha",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SENTENCES)
def test_other_names_get_a_sentence(kind, name):
    start = f"{kind.__name__} has no parameter {name}"
    with pytest.raises(TypeError) as of_constructor:
        kind(**{name: 2})
    with pytest.raises(ValueError, match=start) as of_set_params:
        kind().set_params(**{name: 2})
    for raised in (of_constructor, of_set_params):
        assert str(raised.value).startswith(start)
        assert SENTENCES[name] in str(raised.value)


def test_what_is_a_name_of_pictures_alone_is_no_name_of_the_other():
    with pytest.raises(TypeError, match="filters: it is called channels here"):
        ConvAutoencoder(filters=(8,))
    with pytest.raises(TypeError, match="filters; its parameters are"):
        DenseAutoencoder(filters=(8,))


def test_a_detector_names_its_own_parameters_and_those_of_its_autoencoder():
    with pytest.raises(TypeError, match="outlier_fraction: it is called contamination here"):
        AnomalyDetector(outlier_fraction=0.1)
    with pytest.raises(TypeError, match="threshold and needs none: AnomalyDetector finds it"):
        AnomalyDetector(threshold=3.0)
    for name in ("epoch_num", "max_epochs"):
        sentence = r"max_epochs is one of the autoencoder, estimator=DenseAutoencoder\(max_epochs="
        with pytest.raises(ValueError, match=sentence):
            AnomalyDetector().set_params(**{name: 3})


@pytest.mark.parametrize("kind", KINDS)
def test_the_signature_is_explicit_and_nothing_else_changes(kind):
    parameters = inspect.signature(kind).parameters
    assert next(iter(parameters)) == "latent_dim"
    kinds = {parameter.kind for parameter in parameters.values()}
    assert kinds == {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    assert set(parameters) == set(kind().get_params())
    assert set(inspect.signature(kind.__init__).parameters) == {"self", *parameters}
    estimator = kind(3, max_epochs=5)
    for same in (clone(estimator), pickle.loads(pickle.dumps(estimator))):
        assert same.get_params() == estimator.get_params()
    assert kind().set_params(latent_dim=3).latent_dim == 3
    with pytest.raises(TypeError, match="positional"):
        kind(3, (8,))


def test_a_subclass_may_have_parameters_of_its_own():
    class Scaled(DenseAutoencoder):
        def __init__(self, latent_dim=None, *, scale=1.0):
            super().__init__(latent_dim)
            self.scale = scale

    assert clone(Scaled(3, scale=2.0)).set_params(scale=4.0).scale == 4.0
    with pytest.raises(ValueError, match="Scaled has no parameter n_components"):
        Scaled().set_params(n_components=2)
