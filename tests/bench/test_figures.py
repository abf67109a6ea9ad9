import math

from agent.bench.figures import curve, median, percentile, rounded, spread


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(number) for number in range(1, 101)]
    assert (percentile(values, 50), percentile(values, 99), percentile(values, 100)) == (50, 99, 100)
    assert percentile([7.0], 1) == 7
    assert spread(values) == {"p50": 50, "p99": 99, "max": 100, "count": 100}
    assert curve(values)["99"] == 99


def test_nothing_measured_is_no_number() -> None:
    assert math.isnan(median([]))
    assert rounded({"a": [math.nan, 1.23456], "b": (1, "x")}) == {"a": [None, 1.235], "b": [1, "x"]}
