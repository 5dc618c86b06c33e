"""What the clients ask, what must come back, and what must be in the database then."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import demo
import psycopg

from tests.load.client import Answer, ask
from tests.load.site import Database

OTP_USERS = 8
EXAMPLES = 3
"""So many wrong answers of a kind are shown."""

REFRESH = """
mutation Refresh($token: String!) {
  auth { refreshToken(refreshToken: $token) { success message accessToken refreshToken } }
}
"""
VERIFY = """
mutation Verify($email: String!, $code: String!, $deviceId: String!) {
  otps {
    verify(email: $email, code: $code, deviceId: $deviceId) {
      success message accessToken refreshToken
    }
  }
}
"""
MORE_USERS = """
INSERT INTO users_user (email, password, role, otp_enabled, team_id)
SELECT format('otp%%s@example.com', n), password, role, true, team_id
FROM users_user, generate_series(1, %s) AS n WHERE email = 'grace@example.com'
"""
CODE = """
SELECT code FROM otps_onetimecode JOIN users_user ON users_user.id = user_id
WHERE email = %s AND NOT used ORDER BY otps_onetimecode.id DESC LIMIT 1
"""
PAIR = "mutation Pair($email: String!, $name: String!) { pair(email: $email, name: $name) }"
HITS = {"profile": 1, "hidden hit": 1, "login": 2, "refresh": 1, "verify": 1, "pair": 4}
"""Of each operation; a list of users and their profiles has one for each of them."""
WELCOME = {"success": True, "message": "Welcome."}


@dataclass
class World:
    """What the database holds that no operation changes."""

    ids: dict[str, int]
    roles: dict[str, str]
    profiles: dict[str, bool]
    teams: dict[str, str]

    @classmethod
    def read(cls, database: Database) -> World:
        users = database.rows(
            "SELECT email, u.id, role, name FROM users_user u JOIN users_team t ON t.id = team_id"
        )
        profiles = database.rows(
            "SELECT email, onboarding_completed FROM users_profile p"
            " JOIN users_user u ON u.id = user_id"
        )
        return cls(
            {email: pk for email, pk, *_ in users},
            {email: role for email, _, role, _ in users},
            dict(profiles),
            {email: team for email, *_, team in users},
        )

    def profile(self, email: str) -> dict[str, bool] | None:
        done = self.profiles.get(email)
        return None if done is None else {"onboardingCompleted": done}

    def user(self, email: str) -> dict[str, Any]:
        return {
            "id": str(self.ids[email]),
            "email": email,
            "role": self.roles[email],
            "profile": self.profile(email),
        }


@dataclass
class Ledger:
    """What was answered, so what must be in the database."""

    sent: Counter[str] = field(default_factory=Counter)
    """Requests, by operation."""
    wrong: dict[str, list[str]] = field(default_factory=dict)
    """Answers that were not right, by what was wrong: some examples."""
    wrongs: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    """Of the errors that were answered."""
    tokens: list[str] = field(default_factory=list)
    """The ids of the refresh tokens that clients got."""
    spent: list[str] = field(default_factory=list)
    """The ids of those that were exchanged."""
    devices: list[str] = field(default_factory=list)
    """Those that are trusted now."""
    pairs: list[str] = field(default_factory=list)
    """What was written twice in one transaction."""

    def hits(self, users: int) -> int:
        """Return how many accesses are refused to all the requests, each of which is told."""
        each = {**HITS, "profiles": users}
        return sum(each.get(kind, 0) * count for kind, count in self.sent.items())

    def is_wrong(self, kind: str, example: object) -> None:
        self.wrongs[kind] += 1
        self.wrong.setdefault(kind, [])
        if len(self.wrong[kind]) < EXAMPLES:
            self.wrong[kind].append(str(example)[:400])


Errand = Callable[["Traffic"], Awaitable[None]]


class Traffic:
    """Clients that send mixed operations, and compare what they get with what they should."""

    def __init__(
        self, port: int, database: Database, world: World, *, path: str = demo.BROKEN, seed: int = 1
    ) -> None:
        self.ledger = Ledger()
        self.world = world
        self.leave_within_s: float | None = None
        """Cut connections at a moment within so many seconds; there are no answers then."""
        self._database = database
        self._port = port
        self._path = path
        self._random = random.Random(seed)
        self._left = 0
        self._refreshable: deque[tuple[str, str]] = deque()
        self._otp_users: asyncio.Queue[str]
        """Nobody asks for two codes of one user at a time."""
        self._devices = 0
        self._pairs = 0

    async def send(self, requests: int, concurrency: int, errands: dict[Errand, int]) -> None:
        """Send so many requests, errands by their weights."""
        self._left = requests
        self._otp_users = asyncio.Queue()  # of this loop
        for number in range(1, OTP_USERS + 1):
            self._otp_users.put_nowait(f"otp{number}@example.com")
        deck = self._deck(errands)

        async def client() -> None:
            while self._left > 0:
                errand = next(deck)
                await errand(self)

        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(client())

    def _deck(self, errands: dict[Errand, int]) -> Iterator[Errand]:
        while True:
            cards = [errand for errand, weight in errands.items() for _ in range(weight)]
            self._random.shuffle(cards)
            yield from cards

    def take_tokens(self, other: Traffic) -> None:
        """Have these clients exchange the tokens that others got."""
        self._refreshable.extend(other._refreshable)

    def stop(self) -> None:
        """Let the clients finish what they are at."""
        self._left = 0

    async def ask(
        self,
        kind: str,
        query: str,
        variables: dict[str, Any] | None = None,
        path: str | None = None,
    ) -> Answer | None:
        self._left -= 1
        self.ledger.sent[kind] += 1
        leave = self.leave_within_s
        if leave is not None:
            leave *= self._random.random() ** 2
        try:
            answer = await ask(self._port, path or self._path, query, variables or {}, leave)
        except OSError:
            answer = Answer(0)
        if answer is None:
            return None
        if answer.status != 200:
            what = "got no answer" if answer.status == 0 else f"answered status {answer.status}"
            self.ledger.is_wrong(f"{kind} {what}", answer.body)
        elif answer.errors:
            message = answer.errors[0]["message"]
            self.ledger.messages.update(error["message"] for error in answer.errors)
            self.ledger.is_wrong(f"{kind} answered errors", f"{message} {answer.data}")
        return answer

    async def ask_for(
        self, kind: str, expected: Any, query: str, variables: dict[str, Any] | None = None
    ) -> None:
        answer = await self.ask(kind, query, variables)
        if answer is not None and answer.is_clean and answer.data != expected:
            self.ledger.is_wrong(f"{kind} answered wrong data", f"{answer.data} not {expected}")

    # --- errands -------------------------------------------------------------------------------

    async def log_in(self, email: str, **device: str) -> None:
        variables = {"email": email, "password": demo.PASSWORD, **device}
        answer = await self.ask("login", demo.LOGIN, variables)
        expected = {**WELCOME, "otpRequired": False, "user": self.world.user(email)}
        self.granted("login", answer, ("auth", "login"), expected, email)

    async def refresh(self) -> None:
        if not self._refreshable:
            await self.log_in("ada@example.com")
        if not self._refreshable:
            return
        email, token = self._refreshable.popleft()
        answer = await self.ask("refresh", REFRESH, {"token": token})
        got = self.granted("refresh", answer, ("auth", "refreshToken"), dict(WELCOME), email)
        if got:
            self.ledger.spent.append(claims(token)["jti"])

    async def verify(self) -> None:
        """Log in from an unknown device, look for the code in the database, send it."""
        email = await self._otp_users.get()
        try:
            self._devices += 1
            device = f"device {self._devices}"
            await self._ask_for_code(email, device)
            try:
                codes = await asyncio.to_thread(self._database.column, CODE, email)
            except psycopg.OperationalError:
                return  # it is down
            if not codes:
                return  # the login said why
            variables = {"email": email, "code": codes[0], "deviceId": device}
            answer = await self.ask("verify", VERIFY, variables)
            if self.granted("verify", answer, ("otps", "verify"), dict(WELCOME), email):
                self.ledger.devices.append(device)
        finally:
            self._otp_users.put_nowait(email)

    async def _ask_for_code(self, email: str, device: str) -> None:
        payload = {
            "success": True,
            "message": "We sent you a code.",
            "otpRequired": True,
            "accessToken": None,
            "refreshToken": None,
            "user": None,
        }
        variables = {"email": email, "password": demo.PASSWORD, "deviceId": device}
        await self.ask_for("code", {"auth": {"login": payload}}, demo.LOGIN, variables)

    async def pair(self) -> None:
        self._pairs += 1
        name = str(self._pairs)
        variables = {"email": f"otp{self._pairs % OTP_USERS + 1}@example.com", "name": name}
        answer = await self.ask("pair", PAIR, variables, "/pairs/")
        if answer is None or not answer.is_clean:
            return
        if answer.data != {"pair": [f"left {name}", f"right {name}"]}:
            self.ledger.is_wrong("pair answered wrong data", answer.data)
        self.ledger.pairs.append(name)

    def granted(
        self,
        kind: str,
        answer: Answer | None,
        where: tuple[str, str],
        expected: dict[str, Any],
        email: str,
    ) -> bool:
        """Tell whether a token was granted, and write it down."""
        payload = ((answer and answer.data) or {}).get(where[0]) or {}
        payload = dict(payload.get(where[1]) or {})
        access, token = payload.pop("accessToken", None), payload.pop("refreshToken", None)
        if answer is None or not (token or answer.is_clean):
            return False
        if not token or not access:
            self.ledger.is_wrong(f"{kind} granted no token", answer.data)
            return False
        if answer.is_clean and payload != expected:
            self.ledger.is_wrong(f"{kind} answered wrong data", f"{payload} not {expected}")
        inside = claims(token)
        if inside["user_id"] != str(self.world.ids[email]):
            self.ledger.is_wrong(f"{kind} granted somebody else's token", f"{inside} not {email}")
        if kind != "login" and inside.get("role") != self.world.roles[email]:
            self.ledger.is_wrong(f"{kind} granted a token without its role", inside)
        self.ledger.tokens.append(inside["jti"])
        self._refreshable.append((email, token))
        return True

    async def profile(self, email: str) -> None:
        expected = {"user": {"profile": self.world.profile(email)}}
        await self.ask_for("profile", expected, demo.PROFILE, {"email": email})

    async def device(self) -> None:
        await self.ask_for("hidden hit", {"user": {"lastDevice": "Laptop"}}, demo.DEVICE)

    async def profiles(self) -> None:
        users = [
            {"email": email, "profile": self.world.profile(email)}
            for email in sorted(self.world.ids)
        ]
        await self.ask_for("profiles", {"users": users}, demo.PROFILES)

    async def teams(self) -> None:
        users = [
            {"email": email, "teamName": self.world.teams[email]}
            for email in sorted(self.world.ids)
        ]
        await self.ask_for("teams", {"users": users}, demo.TEAMS)

    async def onboarding(self) -> None:
        entries = [
            {"email": email, "completed": self.world.profiles[email]}
            for email in sorted(self.world.profiles)
        ]
        await self.ask_for("onboarding", {"onboarding": entries}, demo.ONBOARDING)


def claims(token: str) -> dict[str, Any]:
    """Read what a token says, without checking who signed it."""
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


ADA, NEW, GRACE = "ada@example.com", "new@example.com", "grace@example.com"
READING: dict[Errand, int] = {
    lambda it: it.profile(ADA): 3,
    lambda it: it.profile(NEW): 2,
    Traffic.profiles: 2,
    Traffic.device: 2,
    Traffic.teams: 2,
    Traffic.onboarding: 2,
}
"""What can be run again."""
MIXED: dict[Errand, int] = {
    **READING,
    lambda it: it.log_in(ADA): 2,
    lambda it: it.log_in(NEW): 2,
    lambda it: it.log_in(GRACE, deviceId="grace-laptop"): 2,
    Traffic.refresh: 3,
    Traffic.verify: 2,
    Traffic.pair: 2,
}
"""All of them."""
WRITING = {**MIXED, Traffic.pair: 20}
"""All, and every other one has a transaction in which it can be interrupted."""
