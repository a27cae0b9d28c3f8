"""Made-up documents for the tiny pair: JSON records, arithmetic and log files, each drawn from a seeded generator.

Values lean on few common ones, as real records do: small numbers, sorted times, a handful of names and paths.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

NAMES = ("Ada", "Alan", "Barbara", "Edsger", "Frances", "Grace", "John", "Katherine", "Leslie", "Margaret")
CITIES = ("Amsterdam", "Bogotá", "Chicago", "Kraków", "Lagos", "Lyon", "Osaka", "Oslo", "São Paulo", "Zürich")
THINGS = ("apples", "books", "boxes", "coins", "cups", "eggs", "letters", "pencils", "plates", "stamps")
SERVICES = ("api", "auth", "billing", "cache", "gateway", "mailer", "scheduler", "search", "storage", "worker")
PATHS = ("/", "/health", "/index.html", "/login", "/api/v1/items", "/api/v1/orders", "/api/v1/users", "/static/app.js")
EVENTS = (
    ("INFO", "request completed status={code} duration_ms={number}"),
    ("INFO", "connection opened peer=10.0.{small}.{number} active={small}"),
    ("INFO", "connection closed peer=10.0.{small}.{number} reason=idle timeout"),
    ("DEBUG", "cache hit key=user:{number} age_s={small}"),
    ("DEBUG", "queue depth={small} oldest_ms={number}"),
    ("WARNING", "retrying attempt={small} of 5 after {number} ms"),
    ("ERROR", "upstream timed out after {number} ms, giving up"),
)
CODES = (200, 200, 200, 200, 200, 304, 404, 500)
START = datetime(2024, 1, 1, tzinfo=UTC)
YEAR_S = 365 * 24 * 3600


def number(rng: Random, mean: float) -> int:
    """Return a whole number from 1; small ones are common."""
    return 1 + int(rng.expovariate(1 / mean))


def json_document(rng: Random) -> str:
    """Return one to eight records of one kind, compact or indented."""
    make = rng.choice((_person, _order, _reading, _service))
    records: Any = [make(rng, index) for index in range(1, 1 + rng.randint(1, 8))]
    if len(records) == 1 or rng.random() < 0.2:
        records = records[0]
    elif rng.random() < 0.5:
        records = {"count": len(records), "items": records}
    return json.dumps(records, indent=rng.choice((None, 2, 2, 4)), ensure_ascii=False) + "\n"


def _person(rng: Random, index: int) -> dict[str, Any]:
    name = rng.choice(NAMES)
    tags = rng.sample(THINGS, rng.randint(0, 3))
    address = {"city": rng.choice(CITIES), "zip": f"{rng.randint(0, 99):02}000"}
    email = f"{name.lower()}@example.com"
    return {"id": index, "name": name, "email": email, "active": rng.random() < 0.8, "address": address, "tags": tags}


def _order(rng: Random, index: int) -> dict[str, Any]:
    lines = [{"item": thing, "quantity": number(rng, 2)} for thing in rng.sample(THINGS, rng.randint(1, 3))]
    state = rng.choice(("shipped", "shipped", "pending", "cancelled"))
    return {"order": 1000 + index, "customer": rng.choice(NAMES), "status": state, "lines": lines, "note": None}


def _reading(rng: Random, index: int) -> dict[str, Any]:
    time = (START + timedelta(minutes=10 * index)).isoformat()
    unit = rng.choice(("celsius", "percent", "hPa"))
    return {"sensor": f"s{rng.randint(1, 9)}", "time": time, "unit": unit, "value": round(rng.gauss(20, 3), 1)}


def _service(rng: Random, index: int) -> dict[str, Any]:
    limits = {"cpu": rng.choice((1, 2, 4)), "memory_mb": rng.choice((256, 512, 1024))}
    name = rng.choice(SERVICES)
    return {"name": name, "image": f"example.com/{name}:1.{index}", "replicas": number(rng, 1), "limits": limits}


def arithmetic_document(rng: Random) -> str:
    """Return a page of sums, a times table, a series, a running total or a short story problem."""
    make = rng.choice((_sums, _sums, _table, _series, _running_total, _story))
    return "\n".join(make(rng)) + "\n"


def _sums(rng: Random) -> Iterator[str]:
    size = rng.choice((9, 30, 99))
    for _ in range(rng.randint(4, 20)):
        a, b = rng.randint(0, size), rng.randint(0, size)
        yield rng.choice((f"{a} + {b} = {a + b}", f"{a + b} - {a} = {b}"))


def _table(rng: Random) -> Iterator[str]:
    factor = rng.randint(2, 12)
    for other in range(1, 1 + rng.randint(6, 15)):
        yield f"{factor} x {other} = {factor * other}"


def _series(rng: Random) -> Iterator[str]:
    for _ in range(rng.randint(1, 4)):
        first, step, length = rng.randint(0, 20), rng.randint(1, 9), rng.randint(8, 20)
        yield f"Count by {step}: " + ", ".join(str(first + step * i) for i in range(length))


def _running_total(rng: Random) -> Iterator[str]:
    total = rng.randint(0, 20)
    yield f"start with {total}"
    for _ in range(rng.randint(4, 14)):
        change = rng.randint(1, 12)
        yield f"add {change}: {total} + {change} = {total + change}"
        total += change


def _story(rng: Random) -> Iterator[str]:
    for _ in range(rng.randint(1, 5)):
        name, thing, has, gets = rng.choice(NAMES), rng.choice(THINGS), rng.randint(2, 20), rng.randint(1, 12)
        yield f"{name} has {has} {thing} and gets {gets} more. How many {thing} does {name} have?"
        yield f"{has} + {gets} = {has + gets}, so {name} has {has + gets} {thing}."


def log_document(rng: Random) -> str:
    """Return three to twenty-five lines of one log file, in the order of time."""
    make: Callable[[Random, datetime], str] = rng.choice((_access, _event, _event, _journal))
    time = START + timedelta(seconds=rng.randrange(YEAR_S))
    lines = []
    for _ in range(rng.randint(3, 25)):
        time += timedelta(seconds=number(rng, 2))
        lines.append(make(rng, time))
    return "\n".join(lines) + "\n"


def _access(rng: Random, time: datetime) -> str:
    address = f"192.168.0.{number(rng, 5)}"
    return f'{address} - - [{time:%d/%b/%Y:%H:%M:%S} +0000] "GET {rng.choice(PATHS)} HTTP/1.1" {_code(rng)} 512'


def _event(rng: Random, time: datetime) -> str:
    level, message = rng.choice(EVENTS)
    told = message.format(code=_code(rng), number=number(rng, 20), small=number(rng, 3))
    return f"{time:%Y-%m-%d %H:%M:%S} {level} {rng.choice(SERVICES)}: {told}"


def _journal(rng: Random, time: datetime) -> str:
    action = rng.choice(("Started", "Starting", "Stopped", "Stopping", "Reloading"))
    return f"{time:%b %d %H:%M:%S} node{rng.randint(1, 4)} systemd[1]: {action} {rng.choice(SERVICES)}.service."


def _code(rng: Random) -> int:
    return rng.choice(CODES)
