"""The page that says why there were no trades: whose figures it shows, its words, its links."""

from __future__ import annotations

import re
import time

import pytest
from django.test import Client
from django.urls import reverse
from msgspec import structs

from bots.models import Bot, DecisionCount
from bots.selectors import period_start
from bots.services.decisions import DecisionSampler, decisions_store
from tests.bots.conftest import signed_in
from trading.messages import COMPARED, PAID

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def count(bot, **checks):
    names = {"compared": COMPARED, "paid": PAID, "taken": ""}
    for check, number in checks.items():
        DecisionCount.objects.create(
            owner_id=bot.owner_id, bot=bot, base="BTC", quote="USDT", hour=period_start("today"),
            check_name=names.get(check, check), count=number,
        )  # fmt: skip


@pytest.fixture
def desks(world):
    """Both users have a bot, refusals and counts, with names and numbers that give them away."""
    for owner, number in ((world.anna, 1111), (world.ben, 2222)):
        bot = world.bot(owner, f"bot-of-{owner.username}")
        count(bot, compared=number * 100, paid=number, book_age=number - 1, taken=1)
        refused = world.decision(bot, check="book_age", at_ns=time.time_ns())
        why = structs.replace(refused.verdict, reason=f"The older book of {owner.username} is 1500 ms old.")
        refused = structs.replace(refused, verdict=why, later_profit=1.5)
        decisions_store(owner_id=owner.pk, decisions=[refused], sampler=DecisionSampler())
    return world


def text(client, query="", status=200):
    answer = client.get(f"/why/{query}")
    assert answer.status_code == status
    return answer.text


def cell(html, stage):
    return re.search(rf'<tr data-stage="{stage}">.*?<td class="num">(.*?)</td>', html, re.DOTALL)[1]


def test_nobody_sees_it_without_signing_in():
    assert Client().get("/why/").headers["Location"] == "/sign-in/?next=/why/"


def test_a_user_sees_the_funnel_of_their_own_bots_only(desks, ben):
    html = text(ben)
    assert (cell(html, "compared"), cell(html, "paid"), cell(html, "traded")) == ("222,200", "2,222", "1")
    assert "The older book of ben is 1500 ms old." in html
    assert "bot-of-ben" in html
    for trace in ("anna", "1,111", "1,110"):
        assert trace not in html


def test_anothers_desk_or_bot_is_refused(desks, ben):
    annas = Bot.objects.get(owner=desks.anna)
    text(ben, f"?owner={desks.anna.pk}", 403)
    text(ben, f"?bot={annas.pk}", 404)
    text(ben, f"?owner={desks.ben.pk}&bot={annas.pk}", 404)


def test_an_operator_chooses_whose_it_is(desks, operator):
    assert operator.get("/why/").headers["Location"] == f"/why/?owner={desks.anna.pk}"
    html = text(operator, f"?owner={desks.ben.pk}")
    assert cell(html, "paid") == "2,222"
    assert re.search(rf'<option value="{desks.ben.pk}" selected>ben<', html)
    text(operator, f"?owner={desks.ben.pk}&bot={Bot.objects.get(owner=desks.anna).pk}", 404)


@pytest.mark.parametrize("query", ["?period=year", "?bot=x", "?bot=99999999999999999999"])
def test_what_cannot_be_asked_for_is_not_found(desks, ben, query):
    text(ben, query, 404)


@pytest.mark.parametrize("period", ["today", "hour", "day"])
def test_every_period_can_be_chosen(desks, ben, period):
    assert f'<option value="{period}" selected>' in text(ben, f"?period={period}")


def test_it_says_in_short_what_ended_most_and_what_to_do(desks, ben):
    html = text(ben)
    short = re.search(r'id="answer">(.*?)</section>', html, re.DOTALL)[1]
    assert "1 trade." in short
    assert "The book is too old" in short
    assert "maximum book age" in short


def test_its_links_lead_to_the_decisions_of_the_check(desks, ben, operator):
    for client, query in ((ben, ""), (operator, f"?owner={desks.ben.pk}")):
        html = text(client, query)
        links = {link.replace("&amp;", "&") for link in re.findall(r'href="(/admin/bots/decision/\?[^"]+)"', html)}
        assert links
        for link in links:
            answer = client.get(link)
            assert answer.status_code == 200, link
            rows = answer.context["cl"].queryset
            assert {(row.owner_id, row.check_name) for row in rows} == {(desks.ben.pk, "book_age")}


def test_who_may_not_use_the_admin_has_no_links_to_it(desks):
    desks.ben.is_staff = False
    desks.ben.save()
    assert "/admin/" not in text(signed_in(desks.ben))


def test_money_missed_says_that_it_is_a_sample(desks, ben):
    html = text(ben)
    missed = re.search(r'id="missed".*?</section>', html, re.DOTALL)[0]
    assert "sample" in missed
    assert "12.6000" in missed
    assert "1.5000" in missed


def test_nothing_counted_says_what_to_do(world, ben):
    assert "There is no bot on this desk" in text(ben)
    world.bot(world.ben)
    assert "Start a bot" in text(ben)


def test_only_prices_that_never_paid_is_said_so(world, ben):
    count(world.bot(world.ben), compared=500)
    html = text(ben)
    assert "No trades." in html
    assert "No price difference paid the fees" in html
    assert "Nothing was refused." in html


def test_names_are_escaped_and_nothing_is_inline(world, ben):
    bot = world.bot(world.ben, "<b>bold</b>")
    count(bot, compared=5, paid=5, book_age=5)
    answer = ben.get("/why/")
    assert "<b>bold" not in answer.text
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", answer.text)
    for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', answer.text):
        assert ben.get(address).status_code == 200, address


def test_a_bots_page_the_live_page_and_the_sidebar_lead_here(desks, ben):
    bot = Bot.objects.get(owner=desks.ben)
    html = ben.get(reverse("admin:bots_bot_change", args=[bot.pk])).text
    assert f'href="/why/?owner={desks.ben.pk}&amp;bot={bot.pk}"' in html
    assert 'href="/why/"' in html
    assert 'href="/why/"' in ben.get("/live/").text
    shown = text(ben, f"?owner={desks.ben.pk}&bot={bot.pk}")
    assert f'<option value="{bot.pk}" selected>' in shown
