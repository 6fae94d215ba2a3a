"""Where an estimator is documented, for the diagram that notebooks show of it."""


class DocumentedMixin:
    """Links the HTML diagram of scikit-learn to the API reference; stands before BaseEstimator."""

    _doc_link_module = "skae"
    # Without an anchor: scikit-learn appends "#:~:text=..." to link single parameters.
    _doc_link_template = (
        "https://skae.readthedocs.io/en/stable/api/{estimator_module}.{estimator_name}.html"
    )
