"""How the admin shows amounts, states, ages and links."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from django.db import models
from django.template.loader import render_to_string
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from bots.fields import plain

EMPTY = "–"

# Colours of the badges; a state not named here is grey.
GOOD, BAD, WAITING, BUSY = "success", "danger", "warning", "info"
ORDER_STATES = {
    "PENDING": BUSY, "SENDING": BUSY, "UNKNOWN": WAITING, "PLACED": BUSY, "PARTIALLY_FILLED": BUSY, "FILLED": GOOD,
    "FAILED": BAD, "DISPUTED": BAD,
}  # fmt: skip
TRADE_STATES = {"OPEN": BUSY, "HOLDING": GOOD, "REPAIRING": WAITING, "CLOSED": GOOD, "EXPOSED": BAD}
BOT_STATES = {
    "running": GOOD, "starting": BUSY, "stopping": BUSY, "blocked": WAITING, "failed": BAD,
}  # fmt: skip
ACCOUNT_STATES = {"live": GOOD, "starting": BUSY, "blocked": WAITING, "down": BAD, "failed": BAD}
DIFFERENCE_STATES = {"open": BAD, "adopted": GOOD}
COMMAND_STATES = {"pending": BUSY, "done": GOOD, "failed": BAD}
ENVIRONMENTS = {"live": BAD, "testnet": WAITING, "simulated": BUSY}
MODES = {"live": WAITING, "testnet": BUSY, "simulated": BUSY, "paper": BUSY}
SIDES = {"buy": GOOD, "sell": WAITING}


def amount(value: Decimal | float | None, unit: str = "") -> str:
    """Return a number in full, without trailing zeros."""
    if value is None:
        return EMPTY
    text = f"{plain(Decimal(str(value))):f}"
    return f"{text} {unit}" if unit else text


def rounded(value: Decimal | float | None, unit: str = "", *, sign: bool = False) -> SafeString | str:
    """Return a number for reading (four places, eight below one), in full on hover; ``sign`` adds sign and colour."""
    if value is None:
        return EMPTY
    number = Decimal(str(value))
    text = amount(round(number, 4 if abs(number) >= 1 else 8), unit)
    colour = ""
    if sign and number:
        colour = "text-green-700 dark:text-green-400" if number > 0 else "text-red-700 dark:text-red-400"
        text = f"+{text}" if number > 0 else text
    return format_html('<span class="whitespace-nowrap {}" title="{}">{}</span>', colour, amount(number, unit), text)


def badge(text: str, colour: str = "") -> SafeString:
    """Return a coloured label."""
    return mark_safe(render_to_string("unfold/helpers/label.html", {"text": text, "variant": colour}))  # noqa: S308 - a template's


def state(row: models.Model, field: str, colours: Mapping[str, str]) -> SafeString:
    """Return a choice as a coloured label."""
    return badge(getattr(row, f"get_{field}_display")(), colours.get(getattr(row, field), ""))


_LEG = re.compile(r"(?:\d+:)?(?P<exchange>[^:]+):(?P<symbol>.+)")


def route(text: str) -> SafeString | str:
    """Return "BTC/USDT okx-sim → bybit-sim" of a two-leg route; any other as it is."""
    legs = [_LEG.fullmatch(leg) for leg in text.split(">")]
    if len(legs) != 2 or not all(legs):
        return text
    buy, sell = (leg.groupdict() for leg in legs if leg)
    symbols = buy["symbol"] if buy["symbol"] == sell["symbol"] else f"{buy['symbol']} → {sell['symbol']}"
    exchanges = buy["exchange"] if buy["exchange"] == sell["exchange"] else f"{buy['exchange']} → {sell['exchange']}"
    return format_html('<span title="{}">{}<br><small>{}</small></span>', text, symbols, exchanges)


def small_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> SafeString:
    """Return a table within a row's page."""
    heads = format_html_join("", '<th class="font-medium pr-6 text-left">{}</th>', ((header,) for header in headers))
    cells = format_html_join("", "<tr>{}</tr>", ((_cells(row),) for row in rows))
    return format_html("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>", heads, cells)


def _cells(row: Sequence[object]) -> SafeString:
    return format_html_join("", '<td class="pr-6">{}</td>', ((cell,) for cell in row))


def named_values(values: Mapping[str, object]) -> SafeString | str:
    """Return a mapping as a table of two columns; numbers to four significant places, in full on hover."""
    if not values:
        return EMPTY
    return small_table(("Name", "Value"), ((name.replace("_", " "), _short(value)) for name, value in values.items()))


def _short(value: object) -> SafeString | str:
    try:
        return format_html('<span title="{}">{}</span>', value, f"{float(str(value)):.4g}")
    except ValueError:
        return str(value)


def duration(span: timedelta) -> str:
    """Return "12 s", "3 min", "5 h" or "2 d"."""
    seconds = int(span.total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if abs(seconds) >= size:
            return f"{seconds // size if seconds >= 0 else -(-seconds // size)} {unit}"
    return f"{seconds} s"


def age(at: datetime | None) -> SafeString | str:
    """Return how long ago something was; the instant itself shows on hover."""
    if at is None:
        return EMPTY
    return format_html(
        '<time class="whitespace-nowrap" datetime="{0}" title="{0}">{1}</time>',
        at.isoformat(),
        duration(timezone.now() - at),
    )


def moment(at: datetime | None) -> SafeString | str:
    """Return an instant to the millisecond, in UTC."""
    if at is None:
        return EMPTY
    text = at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    return format_html('<span class="whitespace-nowrap">{}</span>', text)


def took(since: datetime, until: datetime | None) -> str:
    """Return the milliseconds between two instants."""
    if until is None:
        return EMPTY
    return f"{(until - since).total_seconds() * 1000:.0f}\u00a0ms"


def link(row: models.Model | None, text: str = "") -> SafeString | str:
    """Return a link to a row's page."""
    if row is None:
        return EMPTY
    name = f"admin:{row._meta.app_label}_{row._meta.model_name}_change"
    try:
        address = reverse(name, args=[row.pk])
    except NoReverseMatch:
        return text or str(row)
    return format_html('<a class="text-primary-600 dark:text-primary-500" href="{}">{}</a>', address, text or str(row))
