"""Entry of `changeover doctor`."""

from collections.abc import Callable, Iterator

from agent.doctor.broker import try_broker
from agent.doctor.cameras import try_cameras
from agent.doctor.checkpoints import try_checkpoints
from agent.doctor.finding import Finding, Try, fail
from agent.doctor.hardware import try_hardware
from agent.doctor.host import try_binds, try_host
from agent.doctor.models import try_models
from agent.doctor.service import running_service, try_service, unit_properties
from agent.doctor.supply.sources import try_sources
from agent.messages.errors import EXIT_FAILED, EXIT_OK, ChangeoverError
from agent.settings import Settings


def run(settings: Settings, say: Callable[[str], None], *, inside: bool) -> int:
    """Run all checks, pass each finding to `say`, and return the exit code.

    `inside`: this process runs in the service's sandbox already, so the service itself is not checked.
    """
    service = running_service() if not inside else None
    held = service is not None
    tries: dict[str, Try] = {}
    if service is not None:
        tries["service"] = lambda: try_service(service, unit_properties() or [])
    tries |= {
        "device": lambda: try_host(settings),
        "hardware": try_hardware,
        "binds": lambda: try_binds(settings),
        "broker": lambda: try_broker(settings),
        "cameras": lambda: try_cameras(settings, held=held),
        "sources": lambda: try_sources(settings),
        "models": lambda: try_models(settings),
        "checkpoints": try_checkpoints,
    }
    failed = False
    for name, try_it in tries.items():
        for finding in _findings(name, try_it):
            say(str(finding))
            failed |= finding.verdict == "fail"
    return EXIT_FAILED if failed else EXIT_OK


def _findings(name: str, try_it: Try) -> Iterator[Finding]:
    try:
        yield from try_it()
    except (ChangeoverError, OSError) as error:
        yield fail(name, str(error))
