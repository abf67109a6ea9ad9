"""Each page shows the plant as it is, in both themes and languages, on a panel and on a phone, and to everybody."""

import json
import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from support.console_plant import PAGES, ConsolePlant, Looking

pytestmark = pytest.mark.browser
Look = Callable[..., Looking]
PHONE = {"width": 390, "height": 844}
PANEL = {"width": 1920, "height": 1080}
THEMES = ("light", "dark")
WORDS = json.loads((Path(__file__).parents[2] / "agent/web/console/files/lang/en.json").read_text())


def test_a_page_without_a_session_asks_for_one(plant: ConsolePlant, look: Look) -> None:
    looking = look(plant)
    looking.page.goto(f"{plant.url}/console/#/models")
    looking.page.wait_for_selector("form input[name=password]")
    looking.page.fill("input[name=name]", "viewer")
    looking.page.fill("input[name=password]", "not this one")
    looking.page.click("button[type=submit]")
    looking.within(lambda: "wrong" in looking.page.inner_text("[role=alert]"))
    assert not looking.has("header nav")
    assert looking.violations() == []


@pytest.mark.parametrize("off_s", [-7200, 7200])
def test_curves_go_on_where_the_panels_clock_is_wrong(plant: ConsolePlant, look: Look, off_s: int) -> None:
    looking = look(plant)
    looking.page.add_init_script(f"Date.now = ((now) => () => now() + {1000 * off_s})(Date.now)")
    looking.log_in("viewer").go("line/line-1")

    def points() -> int:
        return int(looking.attribute("figure.curves", "data-points") or 0)

    looking.within(lambda: points() > 0, 30)
    first = points()
    looking.within(lambda: points() > first, 30)


@pytest.mark.parametrize("place", ["%", "%E0%A4%A", "constructor", "__proto__", "toString/x", "plant/%", "line/%ff"])
def test_an_address_that_somebody_has_broken_shows_a_page(plant: ConsolePlant, look: Look, place: str) -> None:
    looking = look(plant).log_in("viewer")
    looking.page.goto("about:blank")
    looking.page.goto(f"{plant.url}/console/#/{place}")
    looking.within(lambda: looking.has("[data-ready]"))


def test_the_plant_shows_lines_as_a_plc_sees_them(plant: ConsolePlant, look: Look) -> None:
    looking = look(plant).log_in("viewer").go("plant")
    looking.within(lambda: looking.ready() == "bottle-500" and looking.ready("line-2") == "open")
    card = looking.page.inner_text("[data-line=line-1]")
    for word in ("bottle-500", "alpha:n@1", "ready", "live"):
        assert word in card
    looking.within(lambda: all(looking.frame(stream) > 0 for stream in ("cam-1", "cam-2", "cam-3")))
    first = looking.frame("cam-1")
    looking.within(lambda: looking.frame("cam-1") > first + 5)


def test_a_changeover_shows_on_plant_and_line(plant: ConsolePlant, look: Look) -> None:
    looking = look(plant).log_in("viewer").go("plant")
    plant.agent.send("line/line-1/product/set", "17")
    plant.agent.until_said("line/line-1/ready", "17", len(plant.agent.heard))
    looking.within(lambda: looking.ready() == "17")
    looking.go("line/line-1")
    looking.within(lambda: "beta:n@1" in looking.page.inner_text("table"))
    assert "switched" in looking.page.inner_text("table")
    plant.agent.ready("bottle-500")


def test_the_line_shows_its_live_picture_with_what_was_found(plant: ConsolePlant, look: Look) -> None:
    looking = look(plant).log_in("viewer").go("line/line-2")
    looking.within(lambda: looking.frame("cam-3") > 3)
    looking.within(lambda: looking.has(".found") and "beta:n@1" in looking.page.inner_text(".found"))
    age_s = looking.attribute("[data-stream=cam-3] canvas", "data-age")
    assert age_s is not None
    assert float(age_s) < 1.0
    assert looking.has(".curves canvas")


def test_tiles_are_pulled_at_their_own_pace_in_a_size_that_fits_them(plant: ConsolePlant, look: Look) -> None:
    looking = look(plant)
    sent: list[str] = []
    looking.page.on("websocket", lambda one: one.on("framesent", lambda text: sent.append(str(text))))
    looking.log_in("viewer").go("plant")
    looking.within(lambda: all(looking.frame(stream) > 0 for stream in ("cam-1", "cam-2", "cam-3")))
    looking.page.wait_for_timeout(2500)
    begun = len(sent)
    looking.page.wait_for_timeout(4000)
    asked = [one for one in sent[begun:] if one.startswith("cam-1 ")]
    assert 1 <= len(asked) <= 11, "one each 0.4 s"
    assert {one.split()[2] for one in asked} <= {"small", "medium"}


def test_models_alerts_and_device_show_what_the_agent_says(plant: ConsolePlant, look: Look) -> None:
    looking = look(plant).log_in("viewer").go("models")
    looking.within(lambda: "alpha:n@1" in looking.page.inner_text("table") and looking.has(".bar .active"))
    looking.go("alerts")
    looking.within(lambda: "No alert is on" in looking.page.inner_text("main"))
    looking.go("device")
    looking.within(lambda: "connected" in looking.page.inner_text("main"), 15)
    assert "openvino" in looking.page.inner_text("main")


@pytest.mark.parametrize(("theme", "place"), list(product(THEMES, PAGES)))
def test_pages_are_for_everybody(plant: ConsolePlant, look: Look, theme: str, place: str) -> None:
    looking = look(plant, color_scheme=theme).log_in("admin").go(place)
    looking.page.wait_for_timeout(500)
    assert looking.violations() == []


@pytest.mark.parametrize("size", [PHONE, PANEL], ids=["phone", "panel"])
def test_nothing_runs_off_the_page(plant: ConsolePlant, look: Look, size: dict[str, int]) -> None:
    looking = look(plant, viewport=size).log_in("admin")
    for place in PAGES:
        looking.go(place)
        looking.page.wait_for_timeout(300)
        assert looking.page.evaluate("document.documentElement.scrollWidth") <= size["width"], place


def test_rows_of_a_table_are_a_line_high_on_a_phone(plant: ConsolePlant, look: Look) -> None:
    looking = look(plant, viewport=PHONE).log_in("viewer").go("models")
    looking.within(lambda: "alpha:n@1" in looking.page.inner_text("table"))
    heights = looking.page.evaluate("[...document.querySelectorAll('tbody tr')].map((one) => one.offsetHeight)")
    assert max(heights) < 2 * 16 * 1.5, "of a letter of 16 pixels"


def test_ready_is_read_at_three_metres(plant: ConsolePlant, look: Look) -> None:
    looking = look(plant, viewport=PANEL).log_in("viewer").go("plant")
    looking.within(lambda: looking.ready() == "bottle-500")
    height = looking.page.evaluate("document.querySelector('.ready strong').getBoundingClientRect().height")
    assert height >= 45, "12 mm on a 15.6 inch panel, which is read at three metres"


def test_no_page_shows_a_key_instead_of_a_word(plant: ConsolePlant, look: Look) -> None:
    plant.agent.until(lambda: plant.agent.value("health"))
    health = json.loads(plant.agent.value("health") or "{}")
    health["memory"] |= {"worker_lab_bytes": 1 << 20, "supply_bytes": 1 << 20, "gpu_total_bytes": 1 << 20}
    event = {"topic": "health", "doc": health, "age_s": 0.1}

    def answer(route: Any) -> None:  # noqa: ANN401 - of playwright
        body = f"event: snapshot\ndata: {json.dumps([event])}\n\n"
        route.fulfill(status=200, content_type="text/event-stream", body=body)

    looking = look(plant).log_in("admin")
    keys = {key.partition(".")[0] for key in WORDS if "." in key}
    raw = re.compile(rf"(?<![\w.-])({'|'.join(keys)})\.[a-z_]+")
    for place in PAGES:
        found = raw.search(looking.go(place).page.inner_text("main"))
        assert found is None, found
    looking.page.route("**/api/events", answer)
    looking.go("device")
    looking.page.reload()
    looking.within(lambda: "Worker lab" in looking.page.inner_text("main"))
    found = raw.search(looking.page.inner_text("main"))
    assert found is None, found


def test_german_is_one_choice_away_and_stays(plant: ConsolePlant, look: Look) -> None:
    looking = look(plant).log_in("viewer").go("plant")
    looking.page.select_option("header select", "de")
    looking.within(lambda: "Anlage" in looking.page.inner_text("header"))
    looking.page.reload()
    looking.within(lambda: "Anlage" in looking.page.inner_text("header"), 15)
    assert looking.attribute("html", "lang") == "de"


def test_a_theme_that_was_chosen_stays(plant: ConsolePlant, look: Look) -> None:
    looking = look(plant, color_scheme="light").log_in("viewer").go("plant")
    looking.page.click("text=Dark")
    looking.page.reload()
    assert looking.attribute("html", "data-theme") == "dark"


def test_logout_and_a_removed_user_end_what_is_open(plant: ConsolePlant, look: Look) -> None:
    looking = look(plant).log_in("viewer").go("plant")
    looking.page.click("text=Log out")
    looking.within(lambda: looking.has("input[name=password]"))
    assert not looking.has("[data-line]")
