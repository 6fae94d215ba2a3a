"""DimensionsDisplay: how reconstructions change along each dimension of a code."""

from collections.abc import Mapping, Sequence
from typing import Any, Self, TypedDict, Unpack

import numpy as np
from sklearn.utils import indexable
from sklearn.utils.validation import check_is_fitted

from .._data.validation import dense_array
from .axes import (
    Display,
    Lines,
    Maps,
    Mosaic,
    Pictures,
    check_count,
    checked_names,
    column_labels,
    style_keywords,
)
from .reconstruction import as_fitted, resolve_kind

# Means over more rows change little, and each row is decoded once for every value of a dimension.
_MOST_ROWS = 200


class Drawing(TypedDict, total=False):
    """Keywords of `plot`."""

    top: int
    ax: Any
    image_kw: Mapping[str, Any] | None
    line_kw: Mapping[str, Any] | None


class DimensionsDisplay(Display):
    """What each dimension of a code stands for: how reconstructions change along it.

    One dimension of the codes of rows is set to a value, the others stay as they are, and the mean
    of the reconstructions is taken: the partial dependence (Friedman, 2001) of each column on the
    dimension. The values are percentiles of the dimension. For PCA it is a multiple of a component.

    Columns of tables are drawn as a map: the change of each column from the lowest to the highest
    value, in standard deviations of the column. Pictures and signals are drawn at each value.
    Create a display with `from_estimator`.

    Parameters
    ----------
    effects : ndarray of shape (n_dimensions, n_values, ...)
        Mean reconstruction for each value of each dimension: rows, or pictures or signals with
        channels last.
    dimensions : sequence of int
        The dimensions.
    percentiles : sequence of float
        The values, as percentiles of the dimension in the rows.
    kind : {"columns", "image", "signal", "map"}, default="columns"
        How to draw them.
    scale : ndarray of shape (n_features,), default=None
        Divides the changes of columns; None for 1.
    feature_names : ndarray of shape (n_features,), default=None
        Names of the columns; None for "x0", "x1" and so on.

    Attributes
    ----------
    changes : ndarray of shape (n_dimensions, ...)
        Mean reconstruction for the highest value minus that for the lowest, in the unit of X.
    ax_ : matplotlib Axes
        The axes that contain the plot.
    figure_ : matplotlib Figure
        The figure of the axes.
    columns_ : ndarray of int of shape (top,) or None
        The columns that are drawn: those that change most, in their order.
    artists_ : list
        The map, or for pictures and signals a list of artists for each dimension.

    See Also
    --------
    LatentDisplay : Codes of rows.
    ReconstructionDisplay : Rows and their reconstructions.

    References
    ----------
    Friedman, `Greedy Function Approximation: A Gradient Boosting Machine
    <https://doi.org/10.1214/aos/1013203451>`_ (2001), section 8.2.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skae import DenseAutoencoder, DimensionsDisplay
    >>> X = load_wine(as_frame=True).data
    >>> X = (X - X.mean()) / X.std()
    >>> autoencoder = DenseAutoencoder(2, max_epochs=20, random_state=0).fit(X)
    >>> display = DimensionsDisplay.from_estimator(autoencoder, X, top=5)
    >>> display.feature_names[abs(display.changes[0]).argmax()]
    'flavanoids'
    """

    def __init__(
        self,
        effects: Any,
        dimensions: Sequence[int],
        percentiles: Sequence[float],
        *,
        kind: str = "columns",
        scale: Any = None,
        feature_names: Any = None,
    ) -> None:
        self.effects = effects
        self.dimensions = dimensions
        self.percentiles = percentiles
        self.kind = kind
        self.scale = scale
        self.feature_names = feature_names

    @property
    def changes(self) -> np.ndarray:
        return self.effects[:, -1] - self.effects[:, 0]

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        dimensions: Sequence[int] | None = None,
        percentiles: Sequence[float] = (5, 25, 50, 75, 95),
        shape: Sequence[int] | None = None,
        kind: str = "auto",
        feature_names: Any = None,
        **drawing: Unpack[Drawing],
    ) -> Self:
        """Draw what the dimensions of a fitted model's codes stand for.

        Parameters
        ----------
        estimator : object
            Fitted model, or Pipeline, with `transform` and `inverse_transform`.
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            Rows, such as the training rows; or an array of pictures as the estimator takes them.
            200 of them are used at most.
        dimensions : sequence of int, default=None
            The dimensions to draw; None for the first eight.
        percentiles : sequence of float, default=(5, 25, 50, 75, 95)
            Values to which a dimension is set, as percentiles of it in the rows.
        shape : tuple of int, default=None
            Shape of the picture in a flat row, as in `ReconstructionDisplay`. None uses the
            estimator's ``input_shape_``; without it, rows are columns of a table.
        kind : {"auto", "columns", "image", "signal", "map"}, default="auto"
            How to draw. "auto" is "columns" for flat rows without a shape.
        feature_names : array-like of str of shape (n_features,), default=None
            Names of the columns; None for those of the fit, or "x0", "x1" and so on.
        **drawing : dict
            Keywords of `plot`, such as ``ax``.

        Returns
        -------
        display : DimensionsDisplay
            The drawn display.
        """
        cls._begin("from_estimator", drawing)
        check_is_fitted(estimator)
        levels = np.atleast_1d(percentiles)
        if not levels.size or not all(0 <= level <= 100 for level in levels):
            raise ValueError(f"percentiles={percentiles} must be one or more numbers in [0, 100].")
        percentiles = sorted(levels.tolist())
        (X,) = indexable(X if hasattr(X, "shape") else np.asarray(X))
        some = np.linspace(0, X.shape[0] - 1, min(X.shape[0], _MOST_ROWS)).astype(int)
        rows = X.iloc[some] if hasattr(X, "iloc") else X[some]
        codes = dense_array(estimator.transform(rows))
        if dimensions is None:
            dimensions = range(min(8, codes.shape[1]))
        dimensions = np.atleast_1d(dimensions).tolist()
        known = range(codes.shape[1])
        if not dimensions or not all(isinstance(j, int) and j in known for j in dimensions):
            raise ValueError(
                f"dimensions={dimensions} must be one or more of the {codes.shape[1]} dimensions "
                f"of the code, from 0 to {codes.shape[1] - 1}."
            )
        values = np.percentile(codes, percentiles, axis=0).T
        effects = np.stack(
            [[_mean_reconstruction(estimator, codes, j, x) for x in values[j]] for j in dimensions]
        )
        scale = None
        if shape is None and effects.ndim == 3 and not hasattr(estimator, "input_shape_"):
            kind = "columns" if kind == "auto" else kind
        if kind == "columns":
            effects = effects.reshape(*effects.shape[:2], -1)
            flat = np.asarray(dense_array(rows), dtype=float).reshape(len(some), -1)
            # Of the observed entries; the scale of a column without any is 1.
            scale = np.ma.masked_invalid(flat).std(axis=0).filled(0.0)
            if feature_names is None:
                feature_names = getattr(estimator, "feature_names_in_", None)
            if feature_names is not None:
                feature_names = checked_names(feature_names, effects.shape[-1])
        else:
            effects, kind = _shaped(effects, estimator, shape, kind)
        named = {"kind": kind, "scale": scale, "feature_names": feature_names}
        return cls(effects, dimensions, percentiles, **named).plot(**drawing)

    def plot(
        self,
        *,
        top: int = 12,
        ax: Any = None,
        image_kw: Mapping[str, Any] | None = None,
        line_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the display.

        Parameters
        ----------
        top : int, default=12
            Number of columns of a table.
        ax : matplotlib Axes, default=None
            Axes to draw in; None for a new figure.
        image_kw : dict, default=None
            Keywords of `imshow`.
        line_kw : dict, default=None
            Keywords of `plot` for signals.

        Returns
        -------
        self : DimensionsDisplay
            The display.
        """
        check_count(top=top)
        new_figure = ax is None
        self._take_axes(ax)
        self.columns_ = None
        if self.kind == "columns":
            self._draw_columns(top, image_kw)
        else:
            self._draw_rows(new_figure, image_kw, line_kw)
        return self

    def _draw_columns(self, top, image_kw):
        from matplotlib.image import AxesImage

        scale = 1.0 if self.scale is None else np.where(self.scale > 0, self.scale, 1.0)
        changes = self.changes / scale
        self.columns_ = np.sort(np.argsort(-np.abs(changes).max(axis=0), kind="stable")[:top])
        limit = float(np.abs(changes).max()) or 1.0
        style = {"cmap": "coolwarm", "vmin": -limit, "vmax": limit, "aspect": "auto"}
        ax = self.ax_
        image = ax.imshow(changes[:, self.columns_], **style_keywords(AxesImage, image_kw, **style))
        self.artists_ = [image]
        labels = column_labels(self.feature_names, self.columns_)
        ax.set_xticks(np.arange(len(labels)), labels, rotation=45, ha="right")
        ax.set_yticks(np.arange(len(self.dimensions)), self.dimensions)
        ax.set(ylabel="dimension of the code")
        first, last = self.percentiles[0], self.percentiles[-1]
        unit = "units of X" if self.scale is None else "standard deviations"
        ax.set_title(f"from percentile {first} to {last} of a dimension", fontsize="medium")
        self.figure_.colorbar(image, ax=ax, label=f"change in {unit}")

    def _draw_rows(self, new_figure, image_kw, line_kw):
        n_values = self.effects.shape[1]
        if self.kind == "signal":
            centre = self.effects.mean(axis=(0, 1))
            painter = Lines([np.stack([centre] * n_values), *self.effects], line_kw, None)
        else:
            pictures = self.effects.reshape(-1, *self.effects.shape[2:])
            painter = (Maps if self.kind == "map" else Pictures)(pictures, image_kw, None)
        names = [f"dimension {j}" for j in self.dimensions]
        mosaic = Mosaic(n_values, names, painter.cell, n_values)
        self.artists_ = [
            painter.draw_row(mosaic, self.ax_, row, X) for row, X in enumerate(self.effects)
        ]
        mosaic.add_names(self.ax_, equal_aspect=painter.equal_aspect, new_figure=new_figure)
        shown = ", ".join(map(str, self.percentiles))
        self.ax_.set_title(f"percentiles {shown} of each dimension", fontsize="medium")


def _mean_reconstruction(estimator, codes, dimension, value):
    codes = codes.copy()
    codes[:, dimension] = value
    return dense_array(estimator.inverse_transform(codes)).mean(axis=0)


def _shaped(effects, estimator, shape, kind):
    """Effects as pictures or signals with channels last, and how to draw them."""
    n_dimensions, n_values = effects.shape[:2]
    rows = effects.reshape(n_dimensions * n_values, *effects.shape[2:])
    if shape is None and hasattr(estimator, "input_shape_"):
        (rows,), shape, kind = as_fitted([rows], estimator, kind)
    shape = rows.shape[1:] if shape is None else shape
    kind, shape = resolve_kind(kind, shape, rows[0].size)
    if rows[0].size != np.prod(shape):
        raise ValueError(f"shape={shape} does not have the {rows[0].size} columns of X.")
    return rows.reshape(n_dimensions, n_values, *shape), kind
