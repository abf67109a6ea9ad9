"""https:// and http://."""

from urllib.parse import urlsplit, urlunsplit

from agent.supply.sources.located import Located, name_of
from agent.supply.sources.web import Web
from agent.supply.wanted import Wanted


def resolve(wanted: Wanted, web: Web) -> Located:
    """Return the URL itself, with its host's credentials; files beside it keep its query."""
    parts = urlsplit(wanted.reference)
    url = urlunsplit(parts._replace(path=wanted.name_beside(parts.path), fragment=""))
    return Located(url, name_of(url), web.hosts.authorization(url))
