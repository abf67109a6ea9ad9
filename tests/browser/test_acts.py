"""Each act by each role: offered where it is allowed, asked where a line stops, done by control, and journalled."""

import json
from collections.abc import Callable

import pytest
from support.console_plant import ConsolePlant, Looking

from agent.web.console.access.users import Role

pytestmark = pytest.mark.browser
Look = Callable[..., Looking]
OF_A_LINE = ("Turn over to product", "Put a model on by hand", "Give the choice back", "Roll back")
OF_MODELS = ("Reload the configuration", "Order a model", "Start a canary")


def choose(looking: Looking, label: str, value: str) -> None:
    form = looking.page.locator("form.choice", has_text=label)
    form.locator("select").select_option(value)
    form.locator("button").click()


def confirm(looking: Looking) -> None:
    looking.page.click("dialog[open] button.danger")


def chosen(plant: ConsolePlant) -> tuple[str | None, str | None, str | None]:
    """Return the model of line-1, the rule that asked for it, and the user, as the device published them last."""
    state = json.loads(plant.agent.value("line/line-1/state") or '{"cause":{}}')
    return state.get("model"), state["cause"].get("rule"), state["cause"].get("user")


def told(looking: Looking) -> str:
    text: str = looking.page.inner_text("[role=status]")
    return text


@pytest.mark.parametrize(("role", "line_acts", "model_acts"), [("viewer", 0, 0), ("operator", 1, 0), ("admin", 1, 1)])
def test_acts_are_offered_by_role(plant: ConsolePlant, look: Look, role: Role, line_acts: int, model_acts: int) -> None:
    looking = look(plant).log_in(role).go("line/line-1")
    text = looking.page.inner_text("main")
    assert [word in text for word in OF_A_LINE] == [bool(line_acts)] * len(OF_A_LINE)
    text = looking.go("models").page.inner_text("main")
    assert [word in text for word in OF_MODELS] == [bool(model_acts)] * len(OF_MODELS)


def test_an_operator_turns_a_line_over_once_asked(plant: ConsolePlant, look: Look) -> None:
    looking = look(plant).log_in("operator").go("line/line-1")
    choose(looking, "Turn over to product", "17")
    looking.page.click("dialog[open] button.plain")
    assert told(looking) == "", "No was said"
    mark = len(plant.agent.heard)
    choose(looking, "Turn over to product", "17")
    confirm(looking)
    plant.agent.until_said("line/line-1/ready", "17", mark)
    looking.within(lambda: looking.attribute(".side .ready", "data-live") == "17")
    looking.within(lambda: "operator" in looking.page.inner_text("table"))
    cause = json.loads(plant.agent.value("line/line-1/state") or "{}")["cause"]
    assert (cause["value"], cause["user"]) == ("17", "operator")
    plant.agent.logged(r"event=act user=operator act=product line=line-1 value='17'")


def test_an_operator_puts_a_model_on_by_hand_and_gives_it_back(plant: ConsolePlant, look: Look) -> None:
    plant.agent.begin_anew()
    looking = look(plant).log_in("operator").go("line/line-1")
    choose(looking, "Put a model on by hand", "beta:n@1")
    confirm(looking)
    looking.within(lambda: looking.attribute(".side .ready", "data-live") == "0")
    by_hand = ("beta:n@1", "operator", "operator")
    plant.agent.until(lambda: chosen(plant) == by_hand)
    looking.page.click("text=Give the choice back")
    confirm(looking)
    plant.agent.until(lambda: plant.agent.value("line/line-1/ready") == "bottle-500")
    looking.within(lambda: looking.attribute(".side .ready", "data-live") == "bottle-500")
    looking.page.click("text=Roll back")
    confirm(looking)
    looking.within(lambda: told(looking) != "")


def test_an_announced_model_is_kept_for_the_line(plant: ConsolePlant, look: Look) -> None:
    looking = look(plant).log_in("operator").go("line/line-1")
    choose(looking, "Announce", "17")
    looking.within(lambda: told(looking) != "")
    looking.within(lambda: "beta:n@1" in looking.page.locator("section", has_text="Announced models").inner_text(), 15)


def test_an_alert_is_acknowledged_by_name_on_every_page(plant: ConsolePlant, look: Look) -> None:
    plant.agent.send("line/line-1/product/set", "no-such-product")
    first, second = look(plant).log_in("operator").go("alerts"), look(plant).log_in("viewer").go("alerts")
    code = "[data-code=unknown_product]"
    first.within(lambda: first.has(code))
    assert "Add the product" in first.page.inner_text(code), "it says what to do"
    first.page.click(f"{code} button")
    for looking in (first, second):
        looking.page.wait_for_selector(f"{code} >> text=operator has seen it", timeout=3000)
    plant.agent.begin_anew()
    first.within(lambda: not first.has(code))
    assert "cleared" in first.page.inner_text("ol.log")


def test_what_the_device_says_is_german_on_a_german_page(plant: ConsolePlant, look: Look) -> None:
    plant.agent.send("line/line-1/product/set", "no-such-product")
    looking = look(plant, locale="de-DE").log_in("operator").go("alerts")
    code = "[data-code=unknown_product]"
    sentence = "kein Produkt 'no-such-product' in der Konfiguration von line-1; bekannte Produkte: bottle-500"
    looking.within(lambda: looking.has(code) and sentence in looking.page.inner_text(code))
    assert sentence in looking.page.inner_text("ol.log")
    assert looking.page.locator(f"{code} [lang=en]").count() == 0
    looking.page.select_option("header select", "en")
    looking.within(lambda: "no product 'no-such-product' in" in looking.page.inner_text(code))
    plant.agent.begin_anew()


def test_an_admin_reloads_orders_and_starts_canaries(plant: ConsolePlant, look: Look) -> None:
    looking = look(plant).log_in("admin").go("models")
    looking.page.click("text=Reload the configuration")
    confirm(looking)
    plant.agent.logged(r"event=reloaded ok=True")
    looking.page.click("text=Order a model")
    for name, value in (
        ("name", "gamma"),
        ("version", "1"),
        ("file", "http://127.0.0.1:9/x.onnx"),
        ("sha256", "0" * 64),
    ):
        looking.page.fill(f"input[name={name}]", value)
    looking.page.click("button:text-is('Order')")
    looking.within(lambda: "gamma:n@1" in looking.page.locator("section", has_text="Orders").inner_text(), 15)
    plant.agent.logged(r"event=act user=admin act=models")


def test_every_act_stands_in_the_log_of_the_page(plant: ConsolePlant, look: Look) -> None:
    operator = look(plant).log_in("operator").go("line/line-2")
    choose(operator, "Announce", "open")
    looking = look(plant).log_in("viewer").go("alerts")
    looking.within(lambda: "operator: Announce" in looking.page.inner_text("ol.log"))
