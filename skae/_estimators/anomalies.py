"""AnomalyDetector: a threshold on the reconstruction error, and predictions by it."""

import warnings
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, OutlierMixin, clone
from sklearn.model_selection import GroupKFold, check_cv
from sklearn.utils import _safe_indexing, get_tags, indexable
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import (
    _check_sample_weight,
    _num_samples,
    check_is_fitted,
)

from .._data.arrays import in_main_memory, received
from .._data.items import as_rows, warn_of_targets
from .base import BaseAutoencoder
from .dense import DenseAutoencoder
from .neighbors import Neighbors
from .parameters import (
    DocumentedMixin,
    NameHintsMixin,
    available_if,
    random_state_of,
    with_name_hints,
)
from .pipelines import before_last_step, fitted_clone, last_step

# Of the default autoencoder: its longest code, the fewest rows for each dimension, and the folds
# that find the threshold where rows are few.
_LONGEST_CODE, _ROWS_PER_DIMENSION, _N_FOLDS = 32, 4, 5


def _has_errors_by_column(detector):
    given = detector.estimator
    return given is None or hasattr(last_step(given), "reconstruction_errors")


class AnomalyDetector(
    OutlierMixin, MetaEstimatorMixin, DocumentedMixin, NameHintsMixin, BaseEstimator
):
    """Detector of rows that an autoencoder reconstructs badly, or whose codes are far from others.

    For a row with the squared reconstruction error e, and a code at the distance d from the k-th
    nearest code of a training row, ``t = e + d^2``. The score is minus t, times the ratio of t to
    its mean over these k training rows. Rows with a score below a threshold are anomalies.

    The threshold is a quantile of the scores of the training rows, as in other outlier detectors
    of scikit-learn. These rows are reconstructed better than new ones, and have themselves for
    neighbours, so more of the new rows are below it; with ``cv`` the scores are those of rows that
    were held out.

    Parameters
    ----------
    estimator : object with score_samples, default=None
        An autoencoder, or a Pipeline that ends with one. It is cloned. None is a
        `DenseAutoencoder` whose code has half as many dimensions as X has columns, a quarter as
        many as it has rows, and 32 at most.
    contamination : float in (0, 0.5], default=0.1
        Share of the training rows that are below the threshold; with ``cv`` about the share of new
        rows that are, if they are like the training rows.
    n_neighbors : int, default=5
        The number k. 0 takes the scores of the autoencoder, minus the error alone; so does an
        estimator that is no autoencoder of skae, or that has another loss than "mse". At most
        10,000 training rows, taken at random, are compared with.
    cv : int, splitter or iterable of splits, default=None
        None takes the scores of the rows that the autoencoder was fitted to; if ``estimator`` is
        None as well and X has fewer than two rows for each column, it is 5, with a warning. Else
        the threshold is from scores of held-out rows, by an autoencoder for each fold; the final
        one is fitted to all rows. An integer is the number of folds, which are runs of adjacent
        rows, or whole groups.
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
    DenseAutoencoder : The autoencoder.
    sklearn.ensemble.IsolationForest : A detector by random trees.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AnomalyDetector, DenseAutoencoder
    >>> X, y = load_digits(return_X_y=True)
    >>> threes, sevens = X[y == 3], X[y == 7]
    >>> autoencoder = DenseAutoencoder(8, hidden_layer_sizes=())
    >>> detector = AnomalyDetector(autoencoder, contamination=0.05).fit(threes)
    >>> bool((detector.predict(sevens) == -1).mean() > 0.8)
    True
    """

    _parameter_constraints = {
        "estimator": [HasMethods(["fit", "score_samples"]), None],
        "contamination": [Interval(Real, 0, 0.5, closed="right")],
        "n_neighbors": [Interval(Integral, 0, None, closed="left")],
        "cv": ["cv_object"],
        "random_state": ["random_state"],
    }

    @with_name_hints
    def __init__(
        self,
        estimator: Any = None,
        *,
        contamination: float = 0.1,
        n_neighbors: int = 5,
        cv: Any = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.estimator = estimator
        self.contamination = contamination
        self.n_neighbors = n_neighbors
        self.cv = cv
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, groups: Any = None) -> Self:
        """Fit the autoencoder to X, and find the threshold.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Training rows, in any form that the autoencoder takes.
        y : array-like of shape (n_samples,), default=None
            Labels for an autoencoder with ``supervision``; ignored by others. They do not say which
            rows are anomalies.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in the share below the threshold, in the autoencoder and in other
            steps of a pipeline that take weights.
        groups : array-like of shape (n_samples,), default=None
            The group of each row, for the validation rows of the autoencoder and the folds of
            ``cv``. In both, rows of a group are held out together.

        Returns
        -------
        self : object
            The fitted detector.
        """
        self._validate_params()
        if self.estimator is None:
            X = as_rows(X)
            X = X if hasattr(X, "shape") else np.asarray(X)
        autoencoder, weights = self._autoencoder(X), in_main_memory(sample_weight, "sample_weight")
        if weights is not None:
            like = np.empty((_num_samples(X), 0))
            weights = _check_sample_weight(weights, like, dtype=np.float64)
        is_supervised = getattr(last_step(autoencoder), "supervision", 0)
        given = {"y": y if is_supervised else None, "sample_weight": weights, "groups": groups}
        of_rows = {name: values for name, values in given.items() if values is not None}
        fitted = fitted_clone(autoencoder, X, of_rows)
        if not is_supervised:
            warn_of_targets(X, y, (_num_samples(X), getattr(fitted, "n_features_in_", 0)))
        neighbors = self._neighbors_of(fitted, X, weights)
        if neighbors is None:
            _warn_of_whole_code(fitted)
        cv = self._resolve_cv(X, groups)
        if cv is None:
            scores, rows = _scores(fitted, neighbors, X), slice(None)
        else:
            scores, rows = self._held_out_scores(X, autoencoder, cv, of_rows)
        self.estimator_, self._neighbors = fitted, neighbors
        weights = None if weights is None else weights[rows]
        self.offset_ = _quantile(np.asarray(scores), self.contamination, weights)
        for name in ("n_features_in_", "feature_names_in_"):
            vars(self).pop(name, None)
            if hasattr(fitted, name):
                setattr(self, name, getattr(fitted, name))
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """Return the score of each row.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Low for anomalies.
        """
        check_is_fitted(self)
        return _scores(self.estimator_, self._neighbors, X)

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
        return 1 - 2 * (self.decision_function(X) < 0)  # in the library of X

    @available_if(_has_errors_by_column)
    def reconstruction_errors(self, X: Any, **parameters: Any) -> Any:
        """Return the reconstruction error of each column of each row.

        They are those of the autoencoder, after the steps before it in a pipeline.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
        **parameters : dict
            ``top`` and ``mean``, as in `DenseAutoencoder.reconstruction_errors`.

        Returns
        -------
        errors : ndarray of shape (n_samples, n_features), or as ``top`` and ``mean`` say
            The sum over the columns of a row is its error, the part of its score that is not the
            distance of its code.
        """
        check_is_fitted(self)
        X = before_last_step(self.estimator_, X)
        return last_step(self.estimator_).reconstruction_errors(X, **parameters)

    def _autoencoder(self, X):
        """The autoencoder with its parameters, not fitted."""
        if self.estimator is None:
            # What has no columns, `fit` of the autoencoder refuses.
            n_rows, n_columns, *_ = (*X.shape, 1, 1)
            length = min(n_rows // _ROWS_PER_DIMENSION, n_columns // 2, _LONGEST_CODE)
            autoencoder = DenseAutoencoder(max(1, length))
        else:
            autoencoder = clone(self.estimator)
        if self.random_state is not None:
            seed = random_state_of(self.random_state).randint(2**31 - 1)
            names = autoencoder.get_params()
            seeded = [name for name in names if name.split("__")[-1] == "random_state"]
            autoencoder.set_params(**dict.fromkeys(seeded, seed))
        return autoencoder

    def _resolve_cv(self, X, groups):
        """The splitter that finds the threshold; None for the training scores."""
        cv = self.cv
        if cv is None and self.estimator is None:
            n_rows, n_columns, *_ = X.shape
            if _N_FOLDS <= n_rows < 2 * n_columns:
                cv = _N_FOLDS
                warnings.warn(
                    f"X has {n_rows} rows of {n_columns} columns, which an autoencoder fits too "
                    f"closely for their scores to give a threshold: it is found on held-out rows, "
                    f"cv={cv}. Set cv or estimator to choose.",
                    UserWarning,
                    stacklevel=3,
                )
        if isinstance(cv, Integral) and groups is not None:
            return GroupKFold(int(cv))
        return None if cv is None else check_cv(cv)

    def _neighbors_of(self, fitted, X, weights):
        """The training rows that scores refer to; None where they are errors alone."""
        autoencoder = last_step(fitted)
        has_codes = isinstance(autoencoder, BaseAutoencoder) and autoencoder.loss == "mse"
        if not self.n_neighbors or not has_codes:
            return None
        codes, errors = _codes_and_errors(fitted, X)
        if weights is not None:
            codes, errors = codes[weights > 0], errors[weights > 0]
        rng = random_state_of(0 if self.random_state is None else self.random_state)
        return Neighbors.of(codes, errors, autoencoder.inverse_transform, self.n_neighbors, rng)

    def _held_out_scores(self, X, autoencoder, cv, of_rows):
        """Scores of rows by autoencoders that were fitted to the other folds, and their indices."""
        X, *values = indexable(X, *of_rows.values())
        of_rows = dict(zip(of_rows, values, strict=True))
        scores = np.full(_num_samples(X), np.nan)
        for training, held_out in cv.split(X, of_rows.get("y"), of_rows.get("groups")):
            of_training = {name: _safe_indexing(of_rows[name], training) for name in of_rows}
            rows = _safe_indexing(X, training)
            fitted = fitted_clone(autoencoder, rows, of_training)
            neighbors = self._neighbors_of(fitted, rows, of_training.get("sample_weight"))
            scores[held_out] = _scores(fitted, neighbors, _safe_indexing(X, held_out))
        rows = np.flatnonzero(~np.isnan(scores))  # splits may leave out rows
        if not len(rows):
            raise ValueError(
                f"cv={self.cv!r} holds out no row: it must have at least one split, or be None."
            )
        return scores[rows], rows

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        of_estimator = get_tags(DenseAutoencoder() if self.estimator is None else self.estimator)
        for name in ("sparse", "allow_nan", "positive_only"):
            setattr(tags.input_tags, name, getattr(of_estimator.input_tags, name))
        return tags


def _scores(fitted, neighbors, X):
    """Scores of rows, in the library of X with scikit-learn's ``array_api_dispatch``."""
    if neighbors is None:
        return fitted.score_samples(X)
    scores = neighbors.scores(*_codes_and_errors(fitted, X))
    _, kind = received(X)
    return scores if kind is None else kind.of(scores)


def _codes_and_errors(fitted, X):
    """Codes and squared errors of rows, as arrays in main memory."""
    autoencoder, X = last_step(fitted), before_last_step(fitted, X)
    found = autoencoder.transform(X), -autoencoder.score_samples(X)
    codes, errors = (np.asarray(in_main_memory(values, "X")) for values in found)
    return codes, errors


def _quantile(scores, share, weights):
    """The score that a share of the rows is below, between two rows in proportion.

    Weights with a sum above the number of rows are counts of rows.
    """
    if weights is None:
        return float(np.percentile(scores, 100 * share))
    scores, weights = scores[weights > 0], weights[weights > 0]
    order = np.argsort(scores, kind="stable")
    ends = np.cumsum(weights[order] * max(1.0, len(weights) / weights.sum()))
    place = share * max(ends[-1] - 1, 0.0)
    # The rows at the places before and after, as if each were repeated by its weight.
    below, above = (
        scores[order][min(np.searchsorted(ends, whole, side="right"), len(order) - 1)]
        for whole in (np.floor(place), np.floor(place) + 1)
    )
    return float(below + (place - np.floor(place)) * (above - below))


def _warn_of_whole_code(fitted):
    """Warn if codes are as long as rows, so that all errors are rounding."""
    length = getattr(last_step(fitted), "latent_dim_", 0)
    n_features = getattr(last_step(fitted), "n_features_in_", np.inf)
    if length >= n_features:
        warnings.warn(
            f"estimator has codes of latent_dim_={length} dimensions for rows of {n_features} "
            f"columns, which any row can be reconstructed from: the scores are rounding errors. "
            f"Set a smaller latent_dim.",
            UserWarning,
            stacklevel=3,
        )
