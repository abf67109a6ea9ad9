"""The files in config/prometheus and config/grafana, and a real Prometheus that scrapes one target."""

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.brokers import free_port

CONFIG = Path(__file__).parents[2] / "config"
RULES = CONFIG / "prometheus" / "changeover.rules.yml"
DASHBOARD = CONFIG / "grafana" / "changeover.json"


def dashboard_queries() -> list[str]:
    """Return every query of the dashboard, as Grafana fills in its variables."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    return [filled_in(query) for query in queries]


def filled_in(query: str) -> str:
    """Return a query of the dashboard with Grafana's variables filled in."""
    return query.replace("$instance", ".*").replace("$__rate_interval", "30s")


class Prometheus:
    """One running server."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def api(self, path: str, **parameters: str) -> Any:  # noqa: ANN401 - JSON is any of its types
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.load(answer)["data"]

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Return the present result of a query."""
        found: list[dict[str, Any]] = self.api("query", query=query)["result"]
        return found

    def is_up(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def prometheus(folder: Path, target_port: int) -> Iterator[Prometheus]:
    """Run a Prometheus with the rules that ship, while the context lasts."""
    port = free_port()
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "changeover", "static_configs": [{"targets": [f"127.0.0.1:{target_port}"]}]}],
    }
    file = folder / "prometheus.json"
    file.write_text(json.dumps(config))  # JSON is YAML
    command = [
        "prometheus",
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with (folder / "prometheus.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            server = Prometheus(port)
            limit_s = time.monotonic() + 60
            while not server.is_up():
                assert process.poll() is None, (folder / "prometheus.log").read_text()
                assert time.monotonic() < limit_s
                time.sleep(0.1)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
