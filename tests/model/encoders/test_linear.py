from __future__ import annotations

import numpy as np
import pytest
import torch

from ssense.data.dataset import Pairs
from ssense.model.encoders import linear
from ssense.model.encoders.linear import LinearSpec, ridge


def left_out_errors(x, y, penalty):
    """The error of each row predicted by a ridge regression of all the others, by brute force."""
    errors = []
    for row in range(len(x)):
        others = np.arange(len(x)) != row
        centre, constant = x[others].mean(0), y[others].mean(0)
        z, t = x[others] - centre, y[others] - constant
        weights = np.linalg.solve(z.T @ z + penalty * np.eye(x.shape[1]), z.T @ t)
        errors.append(y[row] - constant - (x[row] - centre) @ weights)
    return np.mean(np.square(errors))


@pytest.mark.parametrize(("n", "p", "noise"), [(30, 4, 0.5), (20, 40, 0.1), (25, 6, 30.0)])
def test_ridge_takes_the_penalty_that_is_best_for_rows_left_out(n, p, noise):
    rng = np.random.default_rng(n)
    x = rng.standard_normal((n, p)) + 3
    y = x @ rng.standard_normal((p, 5)) + noise * rng.standard_normal((n, 5)) - 2
    centred = x - x.mean(0)
    penalties = linear._PENALTIES.numpy() * np.linalg.eigvalsh(centred @ centred.T).clip(0).mean()
    best = min(penalties, key=lambda penalty: left_out_errors(x, y, penalty))
    solved = np.linalg.solve(centred.T @ centred + best * np.eye(p), centred.T @ (y - y.mean(0)))
    weights, constants = ridge(torch.from_numpy(x), torch.from_numpy(y))
    np.testing.assert_allclose(weights.numpy().T, solved, rtol=1e-4, atol=1e-6)
    predicted = x @ weights.numpy().T + constants.numpy()
    np.testing.assert_allclose(predicted.mean(0), y.mean(0), rtol=1e-4, atol=1e-5)


def test_it_starts_at_the_regression_of_the_training_targets_on_means_in_windows(pairs):
    train = pairs.select(np.arange(60))
    encoder = LinearSpec(windows=3).build(train, "float32")
    x, targets = train.batch(torch.arange(60))
    values = x.float().unflatten(-1, (3, 6)).mean(-1).flatten(1)
    scaled = (values - values.mean(0)) / values.std(0)
    weights, constants = ridge(scaled, targets)
    expected = scaled @ weights.T + constants
    torch.testing.assert_close(encoder(x), expected, atol=1e-5, rtol=1e-4)


def test_values_that_never_vary_are_left_alone(pairs):
    spectrograms = pairs.spectrograms[:20].clone()
    spectrograms[:, 0] = 1.5
    train = Pairs(spectrograms, pairs.targets[:20])
    encoder = LinearSpec().build(train, "float32")
    assert encoder(train.batch(torch.arange(20))[0]).isfinite().all()
