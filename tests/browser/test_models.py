"""Acts of an admin on models: compares two versions to the end, and orders one and takes the order back."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from support.candidates import CANDIDATE, NAMES, STABLE, add_version
from support.console_plant import ConsolePlant, Looking
from support.file_server import FileServer, Served, file_server
from support.running_agent import DEADLINE_S, RunningAgent
from support.tiny_models import write_tiny_model

pytestmark = pytest.mark.browser
Look = Callable[..., Looking]
PATIENCE_S = 240.0
"""Because what fetches steps back for everything else that the machine does."""


def two_versions(settings: dict[str, Any]) -> None:
    products = {"bottle-500": STABLE, "17": "beta", "crate": STABLE}
    settings["line"]["line-1"] |= {"default": STABLE, "products": products}


def good(agent: RunningAgent) -> None:
    add_version(agent, write_tiny_model(agent.folder / "alpha-2.onnx", names=NAMES))


def told(agent: RunningAgent, topic: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - of the payload
    """Wait until the newest document of a topic has these fields."""
    agent.until(lambda: fields.items() <= json.loads(agent.value(topic) or "{}").items(), PATIENCE_S)
    return dict(json.loads(agent.value(topic) or "{}"))


def compare(looking: Looking, candidate: str, **fields: str) -> None:
    """Fill in the form of a comparison, and send it."""
    form = looking.page.locator("details", has_text="Start a canary")
    if form.get_attribute("open") is None:
        form.locator("summary").click()
    form.locator("select[name=line]").select_option("line-1")
    form.locator("select[name=candidate]").select_option(candidate)
    for name, value in fields.items():
        field = form.locator(f"[name={name}]")
        if name in {"mode", "promote"}:
            field.select_option(value)
        else:
            field.fill(value)
    form.locator("button").click()


def canary(looking: Looking) -> str:
    """Return the text of line-1's comparison."""
    text: str = looking.page.locator("article", has_text="line-1:").inner_text()
    return text


def test_an_admin_compares_two_versions_stops_one_and_promotes_the_next(
    new_plant: Callable[..., ConsolePlant], look: Look
) -> None:
    agent = (plant := new_plant(two_versions, good)).agent
    looking = look(plant).log_in("admin").go("models")
    looking.within(lambda: "line-1: no comparison since the start" in looking.page.inner_text("main"))
    compare(looking, CANDIDATE, mode="canary", share="50", frames="100000")
    told(agent, "line/line-1/canary", result="running", stage="running")
    looking.within(lambda: f"{CANDIDATE} against {STABLE} running" in " ".join(canary(looking).split()))
    agent.until(lambda: json.loads(agent.value("line/line-1/canary") or "{}")["frames"] > 0)
    looking.within(lambda: all(word in canary(looking) for word in ("100 %", "100,000", "50 %", "Stable p50 / p99")))
    looking.page.click("button:text-is('Stop')")
    looking.within(lambda: "stopped" in canary(looking))

    compare(looking, CANDIDATE, mode="shadow", promote="auto")
    assert "by itself" in looking.page.inner_text("dialog[open]"), "it would turn the line over without asking again"
    looking.page.click("dialog[open] button.plain")
    compare(looking, CANDIDATE, mode="shadow", promote="ask", share="100", frames="20")
    told(agent, "line/line-1/canary", result="ready_to_promote")
    looking.within(lambda: "ready to promote" in canary(looking))
    looking.page.click("button:text-is('Promote')")
    looking.page.click("dialog[open] button.danger")
    told(agent, "line/line-1/canary", result="promoted")
    looking.within(lambda: "promoted" in canary(looking))
    agent.until(lambda: agent.value("line/line-1/model/state") == CANDIDATE)
    agent.logged(r"event=act user=admin act=canary line=line-1 value='promote'")
    looking.go("line/line-1")
    looking.within(lambda: f"{STABLE} → {CANDIDATE}" in looking.page.inner_text("table"))


def test_an_admin_orders_a_model_sees_its_progress_and_cancels_it(plant: ConsolePlant, look: Look) -> None:
    with file_server() as server:
        looking, agent = look(plant).log_in("admin").go("models"), plant.agent
        server.files["/x.onnx"] = Served(bytes(1_000_000), hangs_after=300_000)
        order(looking, server)
        job = looking.page.locator("article", has_text="gamma:n@7")
        looking.within(lambda: job.locator("progress").count() == 1, PATIENCE_S)
        assert "downloading" in job.inner_text()
        job.locator("button:text-is('Cancel')").click()
        looking.within(lambda: "cancelled" in job.inner_text(), DEADLINE_S)
        looking.within(lambda: job.locator("button").count() == 0)
        agent.logged(r"event=act user=admin act=cancel")


def order(looking: Looking, server: FileServer) -> None:
    """Order a model of a server by the page's form."""
    looking.page.click("text=Order a model")
    fields = {"name": "gamma", "version": "7", "file": server.url("/x.onnx"), "sha256": "0" * 64}
    for name, value in fields.items():
        looking.page.fill(f"input[name={name}]", value)
    looking.page.click("button:text-is('Order')")
