"""ColumnErrorsDisplay: the columns in which given rows have the largest reconstruction errors."""

from collections.abc import Mapping
from typing import Any, Self, TypedDict, Unpack

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._data.validation import dense_array
from .._estimators.pipelines import before_last_step, last_step, names_before_last_step
from .axes import Display, check_count, checked_names, column_labels, style_keywords


class Drawing(TypedDict, total=False):
    """Keywords of `plot`."""

    top: int
    ax: Any
    bar_kw: Mapping[str, Any] | None
    reference_kw: Mapping[str, Any] | None


class ColumnErrorsDisplay(Display):
    """The columns in which given rows have the largest reconstruction errors, as bars.

    A bar is the mean error of the rows in a column. With reference rows, such as the training
    rows, a mark is their mean error, and the columns are those that exceed it most. Create a
    display with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    errors : ndarray of shape (n_features,)
        Error of each column.
    reference : ndarray of shape (n_features,), default=None
        Usual error of each column.
    feature_names : ndarray of shape (n_features,), default=None
        Names of the columns; None for "x0", "x1" and so on.
    name : str, default="given rows"
        Name of the rows with these errors.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes that contain the plot.
    figure_ : matplotlib Figure
        The figure of the axes.
    columns_ : ndarray of int of shape (top,)
        The columns that are drawn, from the top of the plot down.
    bars_ : matplotlib BarContainer
        Their errors.
    reference_line_ : Line2D or None
        The marks of the reference rows.
    legend_ : matplotlib Legend or None
        Names of bars and marks; None without a reference.

    See Also
    --------
    ReconstructionDisplay : Rows and their reconstructions; shows where pictures differ.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skae import ColumnErrorsDisplay, DenseAutoencoder
    >>> X = load_wine(as_frame=True).data
    >>> X = (X - X.mean()) / X.std()
    >>> autoencoder = DenseAutoencoder(4, random_state=0).fit(X)
    >>> changed = X.iloc[:1].assign(ash=9.0)
    >>> display = ColumnErrorsDisplay.from_estimator(autoencoder, changed, reference=X, top=3)
    >>> display.feature_names[display.columns_[0]]
    'ash'
    """

    def __init__(
        self,
        errors: Any,
        reference: Any = None,
        *,
        feature_names: Any = None,
        name: str = "given rows",
    ) -> None:
        self.errors = errors
        self.reference = reference
        self.feature_names = feature_names
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        reference: Any = None,
        feature_names: Any = None,
        name: str = "given rows",
        **drawing: Unpack[Drawing],
    ) -> Self:
        """Draw the columns in which a fitted autoencoder has the largest errors of given rows.

        Parameters
        ----------
        estimator : DenseAutoencoder, ConvAutoencoder, AnomalyDetector or Pipeline
            Fitted estimator. The last step of a Pipeline must be an autoencoder; the columns are
            those that the step before it returns.
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            The rows, such as those with the lowest `score_samples`.
        reference : {array-like, sparse matrix or array}, default=None
            Rows to compare them with, such as the training rows.
        feature_names : array-like of str of shape (n_features,), default=None
            Names of the columns; None for those of the fit, or "x0", "x1" and so on.
        name : str, default="given rows"
            Name of the rows.
        **drawing : dict
            Keywords of `plot`, such as ``ax``.

        Returns
        -------
        display : ColumnErrorsDisplay
            The drawn display.
        """
        cls._begin("from_estimator", drawing)
        check_is_fitted(estimator)
        given, estimator = estimator, getattr(estimator, "estimator_", estimator)
        autoencoder = last_step(estimator)  # of an AnomalyDetector, too
        if not hasattr(autoencoder, "reconstruction_errors"):
            raise TypeError(
                f"estimator must be an autoencoder of skae, or a Pipeline that ends with one, got "
                f"{type(given).__name__}."
            )

        def mean_errors(rows):
            rows = before_last_step(estimator, rows)
            return np.ravel(autoencoder.reconstruction_errors(rows, mean=True))

        return cls.from_predictions(
            mean_errors(X),
            None if reference is None else mean_errors(reference),
            feature_names=_names(estimator) if feature_names is None else feature_names,
            name=name,
            **drawing,
        )

    @classmethod
    def from_predictions(
        cls,
        errors: Any,
        reference: Any = None,
        *,
        feature_names: Any = None,
        name: str = "given rows",
        **drawing: Unpack[Drawing],
    ) -> Self:
        """Draw the columns with the largest errors.

        Parameters
        ----------
        errors : array-like of shape (n_samples, n_features) or (n_features,)
            Errors of each row, of which the mean is drawn, or of each column.
        reference : array-like of shape (n_samples, n_features) or (n_features,), default=None
            Usual errors, likewise.
        feature_names : array-like of str of shape (n_features,), default=None
            Names of the columns; None for "x0", "x1" and so on.
        name : str, default="given rows"
            Name of the rows.
        **drawing : dict
            Keywords of `plot`, such as ``ax``.

        Returns
        -------
        display : ColumnErrorsDisplay
            The drawn display.
        """
        cls._begin("from_predictions", drawing)
        errors = _of_columns(errors, "errors")
        if reference is not None:
            reference = _of_columns(reference, "reference")
            if len(reference) != len(errors):
                raise ValueError(
                    f"reference has {len(reference)} columns, but errors has {len(errors)}."
                )
        if feature_names is not None:
            feature_names = checked_names(feature_names, len(errors))
        display = cls(errors, reference, feature_names=feature_names, name=name)
        return display.plot(**drawing)

    def plot(
        self,
        *,
        top: int = 10,
        ax: Any = None,
        bar_kw: Mapping[str, Any] | None = None,
        reference_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the display.

        Parameters
        ----------
        top : int, default=10
            Number of columns.
        ax : matplotlib Axes, default=None
            Axes to draw in; None for a new figure.
        bar_kw : dict, default=None
            Keywords of `barh`.
        reference_kw : dict, default=None
            Keywords of `plot` for the reference.

        Returns
        -------
        self : ColumnErrorsDisplay
            The display.
        """
        check_count(top=top)
        ax = self._take_axes(ax)
        from matplotlib.lines import Line2D
        from matplotlib.patches import Rectangle

        excess = self.errors if self.reference is None else self.errors - self.reference
        self.columns_ = columns = np.argsort(-excess, kind="stable")[:top]
        heights = np.arange(len(columns))
        style = style_keywords(Rectangle, bar_kw, color="C0", height=0.7, label=self.name)
        self.bars_ = ax.barh(heights, self.errors[columns], **style)
        self.reference_line_ = self.legend_ = None
        if self.reference is not None:
            mark = {"linestyle": "none", "marker": "|", "markersize": 12, "markeredgewidth": 2}
            style = style_keywords(
                Line2D, reference_kw, color="0.2", label="reference rows", **mark
            )
            (self.reference_line_,) = ax.plot(self.reference[columns], heights, **style)
            handles = [self.bars_, self.reference_line_]
            self.legend_ = ax.legend(handles=handles, loc="lower right")
        ax.set_yticks(heights, column_labels(self.feature_names, columns))
        ax.invert_yaxis()
        ax.set_xlabel("mean reconstruction error")
        return self


def _of_columns(errors, name):
    """The mean over rows, if there are rows."""
    errors = np.asarray(dense_array(errors), dtype=float)
    if errors.ndim not in (1, 2) or not errors.size:
        raise ValueError(f"{name} must have one or two axes, rows and columns, got {errors.shape}.")
    return errors if errors.ndim == 1 else errors.mean(axis=0)


def _names(estimator):
    """Names of the columns that an autoencoder takes; None if they are not known."""
    names = getattr(last_step(estimator), "feature_names_in_", None)
    return names_before_last_step(estimator) if names is None else names
