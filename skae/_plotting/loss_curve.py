"""LossCurveDisplay: training and validation errors of each epoch."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Self, TypedDict, Unpack

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .axes import Display, style_keywords


class Drawing(TypedDict, total=False):
    """Keywords of `plot`."""

    ax: Any
    train_kw: Mapping[str, Any] | None
    valid_kw: Mapping[str, Any] | None
    pca_kw: Mapping[str, Any] | None


class LossCurveDisplay(Display):
    """Training and validation errors of each epoch, one stage after the other.

    Each stage, a training run that was tried, has a colour. The dotted line is the error of PCA on
    the rows that evaluate a stage: validation rows, or all rows without those. Create
    a display with `from_estimator` or `from_history`.

    Parameters
    ----------
    history : list of dict
        One entry for each epoch, as in ``history_``.
    note : str, default=None
        A sentence for the title.

    Attributes
    ----------
    pca_levels : dict of float
        Mean error of a row by PCA, for each stage that was compared with PCA.
    ax_ : matplotlib Axes
        The axes that contain the plot.
    figure_ : matplotlib Figure
        The figure of the axes.
    train_lines_, valid_lines_, pca_lines_ : list of Line2D
        One line for each stage that has such errors.
    legend_ : matplotlib Legend or None
        Stages and kinds of errors; None if nothing was trained.

    See Also
    --------
    VarianceDisplay : Share of the variance that codes of several lengths explain.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import DenseAutoencoder, LossCurveDisplay
    >>> X = load_digits().data
    >>> autoencoder = DenseAutoencoder(8, max_epochs=8, random_state=0).fit(X[:1000])
    >>> display = LossCurveDisplay.from_estimator(autoencoder)
    >>> list(display.pca_levels)
    ['training']
    """

    def __init__(self, history: Sequence[Mapping[str, Any]], *, note: str | None = None) -> None:
        self.history = history
        self.note = note

    @property
    def pca_levels(self) -> dict[str, float]:
        levels = {}
        for epoch in self.history:
            if "variance_explained_by_pca" in epoch and epoch["variance_explained"] < 1:
                loss = epoch.get("valid_loss", epoch["train_loss"])
                variance = loss / (1 - epoch["variance_explained"])
                levels[epoch["stage"]] = (1 - epoch["variance_explained_by_pca"]) * variance
        return levels

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        **drawing: Unpack[Drawing],
    ) -> Self:
        """Draw the training of a fitted autoencoder.

        Parameters
        ----------
        estimator : DenseAutoencoder, ConvAutoencoder or Pipeline
            Fitted estimator. Of a Pipeline, the last autoencoder among its steps is used; of an
            AnomalyDetector or a search, the one that it has fitted.
        **drawing : dict
            Keywords of `plot`, such as ``ax``.

        Returns
        -------
        display : LossCurveDisplay
            The drawn display.
        """
        cls._begin("from_estimator", drawing)
        check_is_fitted(estimator)
        given, estimator = estimator, _last_trained(estimator)
        if estimator is None:
            raise TypeError(
                f"estimator must be an autoencoder of skae, or a Pipeline with one among its "
                f"steps, got {type(given).__name__}."
            )
        history, note = estimator.history_, None
        if not history:
            note = "Nothing was trained: the model is PCA."
        elif getattr(estimator, "nonlinear_gain_", None) == 0:
            note = "PCA was kept: no network was clearly better."
        return cls(history, note=note).plot(**drawing)

    @classmethod
    def from_history(
        cls,
        history: Sequence[Mapping[str, Any]],
        **drawing: Unpack[Drawing],
    ) -> Self:
        """Draw a history.

        Parameters
        ----------
        history : list of dict
            One entry for each epoch, with "stage", "train_loss" and, if there are validation
            rows, "valid_loss". PCA is drawn for stages with "variance_explained" and
            "variance_explained_by_pca".
        **drawing : dict
            Keywords of `plot`, such as ``ax``.

        Returns
        -------
        display : LossCurveDisplay
            The drawn display.
        """
        cls._begin("from_history", drawing)
        note = None if history else "Nothing was trained."
        return cls(history, note=note).plot(**drawing)

    def plot(
        self,
        *,
        ax: Any = None,
        train_kw: Mapping[str, Any] | None = None,
        valid_kw: Mapping[str, Any] | None = None,
        pca_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in; None for a new figure.
        train_kw : dict, default=None
            Keywords of `plot` for training errors.
        valid_kw : dict, default=None
            Keywords of `plot` for validation errors.
        pca_kw : dict, default=None
            Keywords of `plot` for the errors of PCA.

        Returns
        -------
        self : LossCurveDisplay
            The display.
        """
        ax = self._take_axes(ax)
        from matplotlib.lines import Line2D

        marked = {"linewidth": 1.4, "marker": ".", "markersize": 4}  # a single epoch has no line
        styles = {
            "train_loss": style_keywords(Line2D, train_kw, **marked),
            "valid_loss": style_keywords(Line2D, valid_kw, linestyle="--", **marked),
        }
        pca_style = style_keywords(Line2D, pca_kw, color="0.35", linewidth=1.4, linestyle=":")
        levels = self.pca_levels
        lines = {"train_loss": [], "valid_loss": [], "PCA": []}
        handles = []
        end = 0
        for number, (stage, epochs) in enumerate(groupby(self.history, itemgetter("stage"))):
            epochs = list(epochs)
            start, end = end, end + len(epochs)
            colour = f"C{number % 10}"
            handles.append(Line2D([], [], color=colour, linewidth=4, label=stage))
            for key, style in styles.items():
                if key in epochs[0]:
                    losses = [epoch[key] for epoch in epochs]
                    x = np.arange(start, end) + 1
                    lines[key] += ax.plot(x, losses, **{"color": colour, **style})
            if stage in levels:
                x = [start + 0.5, end + 0.5]
                lines["PCA"] += ax.plot(x, [levels[stage]] * 2, **pca_style)
            if start:
                ax.axvline(start + 0.5, color="0.85", linewidth=0.8, zorder=0)
        self.train_lines_, self.valid_lines_, self.pca_lines_ = lines.values()
        labels = ("training rows", "validation rows", "PCA")
        for label, drawn in zip(labels, lines.values(), strict=True):
            if drawn:
                handles.append(Line2D([], []))
                handles[-1].update_from(drawn[0])
                handles[-1].set(color="0.35", label=label)
        ax.set(xlabel="epoch", ylabel="mean error of a row")
        ax.xaxis.get_major_locator().set_params(integer=True)
        self.legend_ = ax.legend(handles=handles, fontsize="small") if handles else None
        if self.note is not None:
            ax.set_title(self.note, loc="left", fontsize="medium")
        if not handles:
            ax.set_axis_off()
        return self


def _last_trained(estimator):
    """The estimator, or the last one within it, with a history; None if there is none."""
    if hasattr(estimator, "history_"):
        return estimator
    within = [step for _, step in getattr(estimator, "steps", [])]
    within += [getattr(estimator, name, None) for name in ("best_estimator_", "estimator_")]
    found = (_last_trained(other) for other in reversed(within) if other is not None)
    return next((other for other in found if other is not None), None)
