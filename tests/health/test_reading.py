"""Several sources make one reading, the best first."""

from agent.health.sensors.reading import Reading, Zone, merged


def test_nothing_makes_an_empty_reading() -> None:
    assert merged([]) == Reading("")


def test_each_value_is_the_first_that_somebody_has() -> None:
    jtop = Reading("jtop", board="Orin NX", zones={"cpu": Zone(51.0)}, power_w=7.8, rails_w={"VDD_SOC": 2.4})
    sysfs = Reading(
        "sysfs",
        board="NVIDIA Jetson",
        system="L4T 36.4.7",
        zones={"cpu": Zone(50.0, 99.0), "tj": Zone(52.0, 99.0)},
        power_w=7.5,
        rails_w={"VDD_SOC": 2.2, "other": 1.0},
        slowed=("gpu",),
    )
    whole = merged([jtop, sysfs])
    assert (whole.source, whole.board, whole.system) == ("jtop, sysfs", "Orin NX", "L4T 36.4.7")
    assert whole.zones == {"cpu": Zone(51.0, 99.0), "tj": Zone(52.0, 99.0)}, (
        "jtop's value, with the limit that sysfs knows"
    )
    assert (whole.power_w, whole.rails_w) == (7.8, {"VDD_SOC": 2.4}), "one source's power is one whole"
    assert whole.slowed == ("gpu",)


def test_a_graphics_card_stands_beside_the_board() -> None:
    board = Reading("sysfs", zones={"x86_pkg_temp": Zone(60.0)}, slowed=())
    card = Reading("nvml", zones={"gpu": Zone(70.0, 93.0)}, power_w=41.0, gpu_load=0.5, slowed=("gpu: heat",))
    whole = merged([board, card])
    assert whole.zones.keys() == {"x86_pkg_temp", "gpu"}
    assert (whole.power_w, whole.gpu_load, whole.slowed) == (41.0, 0.5, ("gpu: heat",))


def test_a_fallback_fills_in_only_where_there_is_nothing() -> None:
    fallback = Reading("psutil", zones={"coretemp_Package id 0": Zone(60.0, 80.0)}, fallback=True)
    assert merged([Reading("sysfs", zones={"cpu": Zone(59.0)}), fallback]).zones == {"cpu": Zone(59.0)}
    assert merged([Reading("sysfs"), fallback]).zones == fallback.zones
