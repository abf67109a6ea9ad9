"""Estimates of the next product from a line's learned order, and the list that the worker gets."""

from dataclasses import replace
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.plant_bench import Bench, plant

from agent.control import snapshot
from agent.control.actions import PreloadLikely
from agent.control.events import Reloaded
from agent.control.learned_order import KEPT, LearnedOrder
from agent.control.state import State
from agent.messages.references import ModelReference, ModelVersion

BATTERY = {str(number): ModelReference(f"check-{number}") for number in range(300)}


def learned(products: str) -> LearnedOrder:
    order = LearnedOrder()
    for product in products:
        order = order.then(product)
    return order


def ranked(order: LearnedOrder) -> str:
    chances = order.chances()
    return "".join(sorted(chances, key=lambda one: -chances[one]))


@pytest.mark.parametrize(
    ("came", "next_"),
    [("", ""), ("a", ""), ("ab", "a"), ("abcabcab", "ca"), ("acbcbcbcac", "ba"), ("abababac", "ab")],
)
def test_what_followed_comes_first_and_what_came_often_next(came: str, next_: str) -> None:
    assert ranked(learned(came)) == next_


def test_habits_change_with_the_orders() -> None:
    assert ranked(learned("ab" * 20 + "ac" * 20 + "a"))[0] == "c"


@given(st.lists(st.sampled_from("abcde"), max_size=3 * KEPT))
def test_chances_are_of_known_products_and_bounded(products: list[str]) -> None:
    order = learned("".join(products))
    chances = order.chances()
    assert len(order.products) <= KEPT
    assert all(before != after for before, after in pairwise(order.products))
    assert set(chances) == set(order.products) - set(order.products[-1:])
    assert not chances or sum(chances.values()) == pytest.approx(1)


def test_an_order_survives_the_disk_and_costs_a_change_only_where_it_changed(bench: Bench) -> None:
    before = snapshot.take(bench.state)
    bench.start()
    bench.product("17")
    bench.product("nobody knows it")
    bench.product("bottle-500")
    after = snapshot.take(bench.state)
    change = msgspec.json.decode(msgspec.json.encode(snapshot.change(before, after)), type=snapshot.Change)
    assert change.learned_orders == {"line-1": LearnedOrder(("17", "bottle-500"))}
    assert snapshot.changed(before, change).learned_orders == after.learned_orders
    assert not snapshot.change(after, after).learned_orders
    fresh = State.of(plant())
    snapshot.restore(fresh, after)
    assert fresh.lines["line-1"].selection.order == LearnedOrder(("17", "bottle-500"))
    assert msgspec.json.decode(b"{}", type=snapshot.Snapshot).learned_orders == {}, "as an older version wrote it"


def preloaded(bench: Bench) -> list[list[str]]:
    return [[model.reference for model in one.models] for one in bench.log if isinstance(one, PreloadLikely)]


def test_lines_are_added_up(bench: Bench) -> None:
    bench.start()
    for line, product in (("line-1", "17"), ("line-1", "bottle-500"), ("line-2", "17"), ("line-2", "big")):
        bench.product(product, line)
    bench.wait(0.25)
    assert preloaded(bench)[-1][0] == "label-check:n@1", "both lines had it before"


def test_the_list_is_sent_once_for_each_change_of_it(bench: Bench) -> None:
    bench.start()
    bench.wait(1)
    bench.product("bottle-500")
    bench.wait(1)
    bench.product("bottle-330")
    bench.wait(1)
    assert preloaded(bench) == [["cap-check:n@3", "label-check:n@1", "cap-check:s@3"]], "one model of both products"


def test_nothing_is_preloaded_where_the_configuration_says_so(bench: Bench) -> None:
    bench.give(Reloaded(replace(plant(), preloads=False)))
    bench.start()
    bench.product("17")
    bench.wait(1)
    assert preloaded(bench) == []


@pytest.mark.parametrize(("classes", "most"), [(0, 64), (500, 30)])
def test_the_list_is_bounded_by_number_and_by_bytes(bench: Bench, classes: int, most: int) -> None:
    words = tuple(f"class-{number}" for number in range(classes))

    def find(reference: ModelReference, variant: str) -> ModelVersion:
        return ModelVersion(reference.name, variant, "1", f"/models/{reference.name}.onnx", "aa", classes=words)

    rules = replace(plant().lines["line-1"], products=BATTERY)
    bench.give(Reloaded(replace(plant(), lines={"line-1": rules, "line-2": rules}, find=find)))
    bench.start()
    bench.wait(0.25)
    assert 1 < len(preloaded(bench)[-1]) <= most


def test_what_has_left_the_catalog_is_told_once(bench: Bench) -> None:
    models = tuple(ModelVersion("cap-check", "n", version, f"/{version}.onnx", "aa") for version in "123")
    bench.give(Reloaded(replace(plant(), models=models)))
    bench.start()
    bench.wait(1)
    bench.give(Reloaded(replace(plant(), models=models[1:])))
    bench.wait(1)
    bench.give(Reloaded(replace(plant(), models=models)))
    bench.wait(1)
    told = [[one.version for one in action.gone] for action in bench.log if isinstance(action, PreloadLikely)]
    assert [one for one in told if one] == [["1"]]
