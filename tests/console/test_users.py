"""Users and sessions: what is kept, and what ends a session."""

import json
import stat
import time
from pathlib import Path

import pytest

from agent.messages.errors import MistakeError
from agent.web.console.access.login_rate import ALL, PER_ADDRESS, LoginRate
from agent.web.console.access.sessions import IDLE_S, LIFE_S, MOST_SESSIONS, Sessions
from agent.web.console.access.users import FOLDER, User, Users

GOOD = "correct horse"


@pytest.fixture
def users(tmp_path: Path) -> Users:
    found = Users(tmp_path)
    found.add("anna", "operator", GOOD)
    return found


def of(users: Users, name: str = "anna") -> User:
    found = users.get(name)
    assert found is not None
    return found


def test_the_file_holds_no_password_and_is_private(users: Users, tmp_path: Path) -> None:
    del users
    path = tmp_path / FOLDER / "users.json"
    assert GOOD not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_only_the_right_password_enters(users: Users) -> None:
    assert users.check("anna", GOOD) == of(users)
    assert users.check("anna", f"{GOOD} ") is None
    assert users.check("anna", "") is None
    assert users.check("bob", GOOD) is None


def test_a_password_is_the_same_however_it_was_typed(tmp_path: Path) -> None:
    users = Users(tmp_path)
    users.add("eva", "viewer", "Schl\u00fcsselbund")
    assert users.check("eva", "Schlu\u0308sselbund") is not None


@pytest.mark.parametrize(
    ("name", "password"), [("", GOOD), ("a b", GOOD), ("x" * 65, GOOD), ("eva", "short"), ("eva", "x" * 1025)]
)
def test_bad_names_and_passwords_change_nothing(users: Users, name: str, password: str) -> None:
    with pytest.raises(MistakeError):
        users.add(name, "admin", password)
    assert list(users.all()) == ["anna"]


def test_a_damaged_file_lets_nobody_in_and_says_so(users: Users, tmp_path: Path) -> None:
    (tmp_path / FOLDER / "users.json").write_text("{")
    with pytest.raises(MistakeError, match="damaged"):
        users.check("anna", GOOD)


def test_a_change_by_another_process_is_seen(users: Users, tmp_path: Path) -> None:
    Users(tmp_path).add("bob", "admin", GOOD)
    assert of(users, "bob").role == "admin"
    assert Users(tmp_path).remove("bob")
    assert users.get("bob") is None
    assert not users.remove("bob")


def test_a_session_outlives_a_restart_and_ends_by_logout(users: Users, tmp_path: Path) -> None:
    sessions = Sessions(tmp_path, users)
    token = sessions.begin(of(users))
    assert token not in (tmp_path / FOLDER / "sessions.json").read_text(), "whoever reads the file gets no session"
    again = Sessions(tmp_path, users)
    again.load()
    assert again.user_of(token) == of(users)
    again.end(token)
    assert again.user_of(token) is None
    third = Sessions(tmp_path, users)
    third.load()
    assert third.user_of(token) is None


def test_a_new_password_a_removal_and_a_new_role_reach_open_sessions(users: Users, tmp_path: Path) -> None:
    sessions = Sessions(tmp_path, users)
    first = sessions.begin(of(users))
    users.add("anna", "viewer", "another one")
    assert sessions.user_of(first) is None
    second = sessions.begin(of(users))
    assert users.remove("anna")
    assert sessions.user_of(second) is None


@pytest.mark.parametrize("past_s", [IDLE_S["operator"] + 1, -IDLE_S["operator"] - 1])
def test_an_idle_session_ends_whichever_way_the_clock_goes(
    users: Users, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, past_s: float
) -> None:
    sessions = Sessions(tmp_path, users)
    token = sessions.begin(of(users))
    now_s = time.time()
    monkeypatch.setattr("agent.web.console.access.sessions.time.time", lambda: now_s + past_s)
    assert sessions.user_of(token) is None


def test_a_session_ends_however_much_it_is_used(users: Users, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = Sessions(tmp_path, users)
    token = sessions.begin(of(users))
    now_s = time.time()
    for minutes in range(0, int(LIFE_S["operator"] / 60), 30):
        monkeypatch.setattr("agent.web.console.access.sessions.time.time", lambda at=minutes: now_s + at * 60)
        assert sessions.user_of(token) is not None
    monkeypatch.setattr("agent.web.console.access.sessions.time.time", lambda: now_s + LIFE_S["operator"] + 1)
    assert sessions.user_of(token) is None


def test_sessions_are_bounded(users: Users, tmp_path: Path) -> None:
    sessions = Sessions(tmp_path, users)
    tokens = [sessions.begin(of(users)) for _ in range(MOST_SESSIONS + 3)]
    assert sum(sessions.user_of(one) is not None for one in tokens) == MOST_SESSIONS
    assert len(json.loads((tmp_path / FOLDER / "sessions.json").read_text())) == MOST_SESSIONS


def test_a_damaged_list_of_sessions_means_that_all_log_in_again(users: Users, tmp_path: Path) -> None:
    token = Sessions(tmp_path, users).begin(of(users))
    (tmp_path / FOLDER / "sessions.json").write_text("[{")
    sessions = Sessions(tmp_path, users)
    sessions.load()
    assert sessions.user_of(token) is None


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_an_address_gets_its_tries_back_with_time() -> None:
    clock = Clock()
    rate = LoginRate(clock)
    assert [rate.take("a") for _ in range(PER_ADDRESS.tries)] == [0] * PER_ADDRESS.tries
    assert 0 < rate.take("a") <= PER_ADDRESS.each_s
    assert rate.take("b") == 0, "another address has its own"
    clock.now_s += PER_ADDRESS.each_s
    assert rate.take("a") == 0
    assert rate.take("a") > 0


def test_a_good_login_costs_no_try() -> None:
    rate = LoginRate(Clock())
    for _ in range(3 * PER_ADDRESS.tries):
        assert rate.take("a") == 0
        rate.give_back("a")


def test_many_addresses_together_are_limited_too() -> None:
    rate = LoginRate(Clock())
    waits = [rate.take(f"address {number}") for number in range(ALL.tries + 5)]
    assert waits.count(0) == ALL.tries
