"""Pipelines that end with an autoencoder: their last step, what it takes, and their fit."""

from inspect import signature

from sklearn import get_config
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter


def last_step(estimator):
    """The last step of a pipeline and of the pipelines in it; other estimators themselves."""
    while isinstance(estimator, Pipeline):
        estimator = estimator[-1]
    return estimator


def before_last_step(fitted, X):
    """What the steps of a fitted pipeline before the last one make of X."""
    while isinstance(fitted, Pipeline):
        X = fitted[:-1].transform(X) if len(fitted) > 1 else X
        fitted = fitted[-1]
    return X


def names_before_last_step(fitted):
    """Names of the columns that the last step takes; None if a step before it has none."""
    names = None
    try:
        while isinstance(fitted, Pipeline):
            names = fitted[:-1].get_feature_names_out(names) if len(fitted) > 1 else names
            fitted = fitted[-1]
    except AttributeError:  # which scikit-learn raises for a step without names
        return None
    return names


def fitted_clone(estimator, X, of_rows):
    """A fitted clone; the steps of a pipeline get what belongs to rows, if they take it."""
    others = {name: values for name, values in of_rows.items() if name != "y"}
    if not get_config()["enable_metadata_routing"]:
        others = _keywords(estimator, others, is_last=True)
    return clone(estimator).fit(X, of_rows.get("y"), **others)


def _keywords(estimator, of_rows, is_last):
    """Keywords of `fit`, after the names of the steps of pipelines."""
    if not isinstance(estimator, Pipeline):
        return {
            name: values
            for name, values in of_rows.items()
            if has_fit_parameter(estimator, name) or (is_last and _must_take(estimator, name))
        }
    keywords = {}
    for step, each in estimator.steps:
        of_step = _keywords(each, of_rows, is_last and each is estimator[-1])
        keywords |= {f"{step}__{name}": values for name, values in of_step.items()}
    return keywords


def _must_take(estimator, name):
    """Weights that the last step cannot take are an error; groups may be for folds alone."""
    parameters = signature(estimator.fit).parameters.values()
    return name != "groups" or any(entry.kind is entry.VAR_KEYWORD for entry in parameters)
