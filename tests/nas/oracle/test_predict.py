"""Scale and constant against least squares; agreement against pairs counted one by one."""

from itertools import combinations

import numpy as np
import pytest

from loomax.nas.oracle.agreement import agreement
from loomax.nas.oracle.predict import fit


def test_the_fit_minimises_relative_errors():
    rng = np.random.default_rng(0)
    sums = rng.uniform(1e-6, 9e-6, 12)
    measured = (0.8 * sums + 2e-6) * rng.uniform(0.9, 1.1, 12)
    scale, constant = fit(sums, measured)
    rows = np.stack([sums / measured, 1 / measured], axis=1)
    expected = np.linalg.lstsq(rows, np.ones(12), rcond=None)[0]
    np.testing.assert_allclose([scale, constant], expected, rtol=1e-9)


def test_the_fit_is_never_negative():
    sums = np.asarray([1.0, 2.0, 3.0])
    scale, constant = fit(sums, 2 * sums - 1)
    assert constant == 0 and scale > 0
    # Faster the larger: nothing to scale with but the mean.
    assert fit(sums, np.asarray([3.0, 2.0, 1.0]))[0] >= 0
    assert fit(sums, np.asarray([9.0, 3.0, 1.0])) == (pytest.approx(13 / 6), 0.0)


def test_agreement_by_pairs():
    rng = np.random.default_rng(1)
    measured = rng.uniform(1, 2, 15)
    predicted = measured * rng.uniform(0.8, 1.25, 15)
    found = agreement(predicted.tolist(), measured.tolist())
    signs = [
        np.sign((predicted[i] - predicted[j]) * (measured[i] - measured[j]))
        for i, j in combinations(range(15), 2)
    ]
    places = [np.argsort(np.argsort(values)) for values in (predicted, measured)]
    assert found.kendall == pytest.approx(np.mean(signs))
    assert found.spearman == pytest.approx(np.corrcoef(*places)[0, 1])
    assert found.within == np.mean(abs(predicted / measured - 1) <= 0.1)
    assert found.mean_error == pytest.approx(np.mean(abs(predicted / measured - 1)))
    assert "15 held-out networks" in str(found)


def test_too_little_to_compare():
    assert np.isnan(agreement([1.0, 1.0], [1.0, 2.0]).kendall)
    with pytest.raises(ValueError, match="1 measurements: give at least 2"):
        agreement([1.0], [1.0])
