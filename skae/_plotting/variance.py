"""VarianceDisplay: share of the variance that codes of several lengths explain, beside PCA's."""

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, Self, TypedDict, Unpack

import numpy as np
from sklearn.base import clone
from sklearn.utils import _safe_indexing, indexable

from .._data.splits import held_out_runs
from .._data.validation import dense_array, flat_rows
from .._estimators.dense import DenseAutoencoder
from .._estimators.parameters import random_state_of
from .axes import Display, style_keywords

# Share of the rows used for validation if ``X_test`` is not given.
_VALIDATION_FRACTION = 0.2


class Drawing(TypedDict, total=False):
    """Keywords of `plot`."""

    ax: Any
    line_kw: Mapping[str, Any] | None
    pca_kw: Mapping[str, Any] | None


class VarianceDisplay(Display):
    """Share of the variance of validation rows that codes of several lengths explain, beside PCA's.

    Create a display with `from_estimator`, which fits an autoencoder for each length, or with
    `from_predictions`, from scores.

    Parameters
    ----------
    latent_dims : ndarray of int of shape (n_lengths,)
        Lengths of the code.
    scores : ndarray of shape (n_lengths,)
        Share of the variance that codes of each length explain.
    pca_scores : ndarray of shape (n_lengths,), default=None
        The same for PCA.
    name : str, default="autoencoder"
        Name of the model with these scores.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes that contain the plot.
    figure_ : matplotlib Figure
        The figure of the axes.
    line_, pca_line_ : Line2D
        Lines of the scores and of PCA's scores; None without the latter.
    legend_ : matplotlib Legend
        Names of the lines.

    See Also
    --------
    LossCurveDisplay : Training and validation errors of an autoencoder.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import DenseAutoencoder, VarianceDisplay
    >>> X = load_digits().data
    >>> autoencoder = DenseAutoencoder(max_epochs=8, random_state=0)
    >>> display = VarianceDisplay.from_estimator(autoencoder, X[:1000], latent_dims=(2, 4))
    >>> bool((display.scores > display.pca_scores).all())
    True
    """

    def __init__(
        self,
        latent_dims: Sequence[int],
        scores: Any,
        pca_scores: Any = None,
        *,
        name: str = "autoencoder",
    ) -> None:
        self.latent_dims = latent_dims
        self.scores = scores
        self.pca_scores = pca_scores
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        latent_dims: Sequence[int] = (2, 4, 8, 16, 32),
        X_test: Any = None,
        name: str | None = None,
        **drawing: Unpack[Drawing],
    ) -> Self:
        """Fit an autoencoder for each length, and PCA, and draw their scores on validation rows.

        Parameters
        ----------
        estimator : DenseAutoencoder or ConvAutoencoder
            Fitted or not. It is not changed: clones of it are fitted.
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Training rows, or an array of pictures that the estimator accepts.
        y : array-like of shape (n_samples,), default=None
            Labels of these rows, for an estimator with ``supervision``.
        latent_dims : sequence of int, default=(2, 4, 8, 16, 32)
            Lengths of the code.
        X_test : {array-like, sparse matrix or array}, default=None
            Validation rows. None takes a fifth of X, in runs of neighbouring rows.
        name : str, default=None
            Name of the estimator; None for its class name.
        **drawing : dict
            Keywords of `plot`, such as ``ax``.

        Returns
        -------
        display : VarianceDisplay
            The drawn display.
        """
        cls._begin("from_estimator", drawing)
        parameters = estimator.get_params(deep=False)
        if not {"latent_dim", "loss"} <= set(parameters):
            raise TypeError(
                f"estimator must be an autoencoder of skae, got {type(estimator).__name__}; of a "
                f"Pipeline, pass the step that is one, and the rows that it takes."
            )
        if parameters["loss"] != "mse":
            raise ValueError(
                f"loss={parameters['loss']!r} must be 'mse': scores of another loss are not "
                f"shares of the variance, and PCA has none."
            )
        latent_dims = np.sort(_lengths(latent_dims))
        if X_test is None:
            X, X_test, y = _split(X, y, random_state_of(parameters["random_state"]))
        scores = [
            clone(estimator).set_params(latent_dim=length).fit(X, y).score(X_test)
            for length in latent_dims.tolist()
        ]
        pca_scores = _scores_of_pca(flat_rows(X), flat_rows(X_test), latent_dims, parameters)
        name = name or type(estimator).__name__
        return cls.from_predictions(latent_dims, scores, pca_scores, name=name, **drawing)

    @classmethod
    def from_predictions(
        cls,
        latent_dims: Sequence[int],
        scores: Any,
        pca_scores: Any = None,
        *,
        name: str = "autoencoder",
        **drawing: Unpack[Drawing],
    ) -> Self:
        """Draw scores.

        Parameters
        ----------
        latent_dims : array-like of int of shape (n_lengths,)
            Lengths of the code.
        scores : array-like of shape (n_lengths,)
            Share of the variance that codes of each length explain.
        pca_scores : array-like of shape (n_lengths,), default=None
            The same for PCA.
        name : str, default="autoencoder"
            Name of the model with these scores.
        **drawing : dict
            Keywords of `plot`, such as ``ax``.

        Returns
        -------
        display : VarianceDisplay
            The drawn display.
        """
        cls._begin("from_predictions", drawing)
        latent_dims = _lengths(latent_dims)
        order = np.argsort(latent_dims)
        columns = {"scores": scores, "pca_scores": pca_scores}
        for key, column in columns.items():
            if column is None:
                continue
            columns[key] = np.asarray(column, dtype=float)
            if columns[key].shape != latent_dims.shape:
                raise ValueError(
                    f"{key} has shape {columns[key].shape}, but there are {len(latent_dims)} "
                    f"latent_dims."
                )
            columns[key] = columns[key][order]
        return cls(latent_dims[order], **columns, name=name).plot(**drawing)

    def plot(
        self,
        *,
        ax: Any = None,
        line_kw: Mapping[str, Any] | None = None,
        pca_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in; None for a new figure.
        line_kw : dict, default=None
            Keywords of `plot` for the estimator.
        pca_kw : dict, default=None
            Keywords of `plot` for PCA.

        Returns
        -------
        self : VarianceDisplay
            The display.
        """
        ax = self._take_axes(ax)
        from matplotlib.lines import Line2D
        from matplotlib.ticker import NullLocator

        marked = {"marker": "o", "markersize": 4}
        style = style_keywords(Line2D, line_kw, color="C0", label=self.name, **marked)
        (self.line_,) = ax.plot(self.latent_dims, self.scores, **style)
        self.pca_line_ = None
        if self.pca_scores is not None:
            style = style_keywords(
                Line2D, pca_kw, color="0.45", linestyle="--", label="PCA", **marked
            )
            (self.pca_line_,) = ax.plot(self.latent_dims, self.pca_scores, **style)
        ax.set_xscale("log", base=2)
        ax.xaxis.set_minor_locator(NullLocator())
        ticks = _labelled(self.latent_dims)
        ax.set_xticks(ticks, ticks)
        ax.set(xlabel="latent_dim", ylabel="share of the variance explained")
        self.legend_ = ax.legend()
        return self


def _lengths(latent_dims):
    lengths = list(latent_dims) if np.ndim(latent_dims) else []
    if not lengths or not all(isinstance(k, Integral) and k > 0 for k in lengths):
        raise ValueError(f"latent_dims={latent_dims!r} must be one positive integer or more.")
    return np.array(lengths)


def _split(X, y, rng):
    """Training and validation rows, few of which have neighbours there, and training labels."""
    X, y = indexable(X if hasattr(X, "shape") else np.asarray(X), y)
    training, validation = held_out_runs(X.shape[0], _VALIDATION_FRACTION, rng)
    if not len(validation):
        raise ValueError(f"X has {X.shape[0]} rows, too few to split off a fifth: pass X_test.")
    y = None if y is None else _safe_indexing(y, training)
    return _safe_indexing(X, training), _safe_indexing(X, validation), y


def _scores_of_pca(X, X_test, latent_dims, parameters):
    """The value of `score` for PCA of each length, in ascending order."""
    same = ("device", "random_state", "missing_values")
    same = {key: parameters[key] for key in same if key in parameters}

    def fitted(length):
        return DenseAutoencoder(length, hidden_layer_sizes=(), **same).fit(X)

    lengths = np.minimum(latent_dims, min(X.shape)).tolist()
    if same.get("missing_values") is not None:  # what fills them depends on the length
        return [fitted(length).score(X_test) for length in lengths]
    # The codes of the longest contain those of the others.
    pca = fitted(lengths[-1])
    squares = np.square(dense_array(pca.transform(X_test)), dtype=float).sum(axis=0)
    shares = np.cumsum(squares)[np.subtract(lengths, 1)]
    return pca.score(X_test) * shares / (squares.sum() or 1.0)


def _labelled(latent_dims):
    """The lengths whose tick labels do not overlap the previous one on a logarithmic axis."""
    labelled, distance = [], np.log2(latent_dims[-1] / latent_dims[0]) / 12
    for length in latent_dims.tolist():
        if not labelled or np.log2(length / labelled[-1]) > distance:
            labelled.append(length)
    return labelled
