"""The slope by exact conditional draws is that of a quadratic where the network has one layer."""

import numpy as np

from benchmarks import deep_linear_slopes as slopes
from benchmarks.deep_linear import Net, second_moments


def test_the_exact_slope_of_one_layer_is_that_of_a_quadratic():
    net, localization = Net("one layer", (3, 4), (3,), 200, (0, 0)), 800.0
    found = slopes.exact_slope(net, localization, num_sweeps=400)
    nbeta = net.num_examples / np.log(net.num_examples)
    stiff = 2 * nbeta / 4 * np.linalg.eigvalsh(second_moments(net))
    low, high = (
        np.sum(stiff / (stiff + localization * ratio))
        for ratio in (slopes.RATIO**-0.5, slopes.RATIO**0.5)
    )
    exact = np.log(high / low) / np.log(slopes.RATIO)
    assert abs(found.mean - exact) < 4 * found.sem
    # With other numbers at the second localization the error is 0.045.
    assert found.sem < 0.005 < 0.05 * abs(exact)


def test_the_page_says_how_many_nets_follow_localization():
    row = {"case": "1K/0", "parameters": 1, "localization": 10.0, "effective draws": 100.0}
    found = [row | {"exact slope": -0.3, "sem": 0.01}, row | {"exact slope": -0.05, "sem": 0.02}]
    (check,) = slopes.make_page("1K", found).checks
    assert check.held and "1 reach 0.1" in check.detail
    assert not slopes.make_page("1K", [found[0] | {"sem": 0.05}]).checks[0].held
