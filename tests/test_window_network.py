"""The actor's last layer: smooth over windows at the edge, free between cloud and edge."""

from __future__ import annotations

import numpy as np
import torch

from agents.network import DEGREE, SmoothWindows


def test_edge_logits_are_a_cubic_of_the_window() -> None:
    smooth = SmoothWindows(13)
    weights = smooth(torch.randn(DEGREE + 1, 5)).numpy()
    for column in weights[1:].T:
        fitted = np.polynomial.Polynomial.fit(range(1, 13), column, DEGREE)(np.arange(1, 13))
        assert np.allclose(fitted, column, atol=1e-4)


def test_cloud_logit_is_free_of_the_edge_logits() -> None:
    smooth = SmoothWindows(13)
    coefficients = torch.zeros(DEGREE + 1, 1)
    coefficients[0] = 1.0
    weights = smooth(coefficients)
    assert weights[0] != 0 and not weights[1:].any()


def test_weights_come_back_from_their_coefficients() -> None:
    smooth = SmoothWindows(13)
    weights = smooth(torch.randn(DEGREE + 1, 5))
    assert torch.allclose(smooth(smooth.right_inverse(weights)), weights, atol=1e-4)
