"""
Which columns make a row an anomaly
===================================

An autoencoder that was fitted on benign cells reconstructs malignant ones badly. ``score_samples``
ranks the rows, and ``reconstruction_errors`` divides the error of a row among its columns. The
columns are standardised first, so that their errors have the same unit.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import ColumnErrorsDisplay, DenseAutoencoder

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
benign = X[y == 1]
train, test = train_test_split(benign, random_state=0)
malignant = X[y == 0]

model = make_pipeline(StandardScaler(), DenseAutoencoder(4, random_state=0)).fit(train)

scores = model.score_samples(malignant)
order = scores.argsort()
n_lower = (scores < model.score_samples(test).min()).sum()
print(f"{n_lower} of {len(malignant)} malignant cells score below every benign test cell")

# %%
# The bars are the errors of one cell, and of all malignant cells. The marks are the errors that
# benign cells have in these columns; the columns shown are those that exceed them most.

figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
rows = {"the lowest score": malignant.iloc[order[:1]], "all malignant cells": malignant}
for ax, (name, chosen) in zip(axes, rows.items(), strict=True):
    ColumnErrorsDisplay.from_estimator(model, chosen, reference=test, top=8, name=name, ax=ax)

# %%
# The same as a table: the three largest errors of each of the five lowest scores, by name.

scaler, autoencoder = model
_, columns = autoencoder.reconstruction_errors(scaler.transform(malignant.iloc[order[:5]]), top=3)
for row, names in zip(order[:5], X.columns[columns.ravel()].values.reshape(-1, 3), strict=True):
    print(f"{scores[row]:9.0f}  {', '.join(names)}")
