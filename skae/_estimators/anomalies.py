"""AnomalyDetector: a threshold on the reconstruction error, and predictions by it."""

import warnings
from numbers import Real
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, OutlierMixin, clone
from sklearn.model_selection import check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, get_tags, indexable
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import _num_samples, check_is_fitted

from .dense import DenseAutoencoder
from .parameters import DocumentedMixin, random_state_of

# The longest code of the default autoencoder.
_LONGEST_CODE = 32


class AnomalyDetector(OutlierMixin, MetaEstimatorMixin, DocumentedMixin, BaseEstimator):
    """Detector of rows that an autoencoder reconstructs badly.

    The score of a row is that of `score_samples` of the autoencoder: minus its reconstruction
    error. Rows with a score below a threshold are anomalies. The threshold is a quantile of the
    scores of the training rows, as in other outlier detectors of scikit-learn. The errors of rows
    that the autoencoder was fitted to are smaller than those of new rows, so more of these are
    below it; with ``cv`` the scores are those of rows that were held out.

    Parameters
    ----------
    estimator : object with score_samples, default=None
        An autoencoder, or a Pipeline that ends with one. It is cloned. None is a
        `DenseAutoencoder` whose code has half as many dimensions as X has columns, 32 at most.
    contamination : float in (0, 0.5], default=0.1
        Share of the training rows that are below the threshold; with ``cv`` about the share of new
        rows that are, if they are like the training rows.
    cv : int, splitter or iterable of splits, default=None
        None takes the scores of the rows that the autoencoder was fitted to. Else the threshold is
        from scores of held-out rows, by an autoencoder for each fold; the final one is fitted to
        all rows. An integer is the number of folds, which are runs of adjacent rows.
    random_state : int, RandomState instance or None, default=None
        Sets each ``random_state`` of the estimator. None leaves them as they are.

    Attributes
    ----------
    estimator_ : estimator
        The fitted autoencoder.
    offset_ : float
        The threshold: ``decision_function(X) = score_samples(X) - offset_``.
    n_features_in_ : int
        Number of columns of X in `fit`.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns of X in `fit`, if all were strings.

    See Also
    --------
    DenseAutoencoder : The autoencoder; ``reconstruction_errors`` divides errors among columns.
    sklearn.ensemble.IsolationForest : A detector by random trees.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AnomalyDetector, DenseAutoencoder
    >>> X, y = load_digits(return_X_y=True)
    >>> threes, sevens = X[y == 3], X[y == 7]
    >>> autoencoder = DenseAutoencoder(8, hidden_layer_sizes=())
    >>> detector = AnomalyDetector(autoencoder, contamination=0.05, cv=5).fit(threes)
    >>> bool((detector.predict(sevens) == -1).mean() > 0.8)
    True
    """

    _parameter_constraints = {
        "estimator": [HasMethods(["fit", "score_samples"]), None],
        "contamination": [Interval(Real, 0, 0.5, closed="right")],
        "cv": ["cv_object"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        contamination: float = 0.1,
        cv: Any = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.estimator = estimator
        self.contamination = contamination
        self.cv = cv
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit the autoencoder to X, and find the threshold.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Training rows, in any form that the autoencoder takes.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted detector.
        """
        self._validate_params()
        autoencoder = self._autoencoder(X)
        fitted = clone(autoencoder).fit(X)
        _warn_of_whole_code(fitted)
        if self.cv is None:
            scores = fitted.score_samples(X)
        else:
            scores = self._held_out_scores(X, autoencoder)
        self.estimator_ = fitted
        self.offset_ = float(np.percentile(scores, 100 * self.contamination))
        for name in ("n_features_in_", "feature_names_in_"):
            vars(self).pop(name, None)
            if hasattr(fitted, name):
                setattr(self, name, getattr(fitted, name))
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """Return the score of each row: minus its reconstruction error.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Low for anomalies.
        """
        check_is_fitted(self)
        return self.estimator_.score_samples(X)

    def decision_function(self, X: Any) -> np.ndarray:
        """Return by how much the score of each row is above the threshold.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)

        Returns
        -------
        differences : ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``: negative for anomalies.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """Return which rows are anomalies.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)

        Returns
        -------
        labels : ndarray of int of shape (n_samples,)
            -1 for anomalies and 1 for other rows.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def _autoencoder(self, X):
        """The autoencoder with its parameters, not fitted."""
        if self.estimator is None:
            autoencoder = DenseAutoencoder(_default_length(X))
        else:
            autoencoder = clone(self.estimator)
        if self.random_state is not None:
            seed = random_state_of(self.random_state).randint(2**31 - 1)
            names = autoencoder.get_params()
            seeded = [name for name in names if name.split("__")[-1] == "random_state"]
            autoencoder.set_params(**dict.fromkeys(seeded, seed))
        return autoencoder

    def _held_out_scores(self, X, autoencoder):
        """Scores of rows by autoencoders that were fitted to the other folds."""
        (X,) = indexable(X)
        scores = np.full(_num_samples(X), np.nan)
        for training, held_out in check_cv(self.cv).split(X):
            fitted = clone(autoencoder).fit(_safe_indexing(X, training))
            scores[held_out] = fitted.score_samples(_safe_indexing(X, held_out))
        return scores[~np.isnan(scores)]  # splits may leave out rows

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        of_estimator = get_tags(DenseAutoencoder() if self.estimator is None else self.estimator)
        tags.input_tags.sparse = of_estimator.input_tags.sparse
        tags.input_tags.positive_only = of_estimator.input_tags.positive_only
        return tags


def _default_length(X):
    """The length of the default code; what has no columns is refused by `fit`."""
    shape = X.shape if hasattr(X, "shape") else np.asarray(X).shape
    if len(shape) != 2:
        return 1
    return max(1, min(shape[0], shape[1] // 2, _LONGEST_CODE))


def _warn_of_whole_code(fitted):
    """Warn if codes are as long as rows, so that all errors are rounding."""
    autoencoder = fitted[-1] if isinstance(fitted, Pipeline) else fitted
    length = getattr(autoencoder, "latent_dim_", 0)
    n_features = getattr(autoencoder, "n_features_in_", np.inf)
    if length >= n_features:
        warnings.warn(
            f"estimator has codes of latent_dim_={length} dimensions for rows of {n_features} "
            f"columns, which any row can be reconstructed from: the scores are rounding errors. "
            f"Set a smaller latent_dim.",
            UserWarning,
            stacklevel=3,
        )
