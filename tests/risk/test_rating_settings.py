"""The settings of sizing, slippage and scoring: as the policy has them, nothing half saved, nobody overruled."""

from __future__ import annotations

import threading
from decimal import Decimal
from functools import partial
from html import unescape
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.urls import reverse

from bots.services.roles import OPERATORS
from risk.models import ScoringSettings, SizingSettings, SlippageSettings
from risk.models.rating_settings import WEIGHTS, RatingSettings
from risk.policy.score import ScoreScales, ScoreWeights
from risk.policy.sizing import SizingRules
from risk.policy.slippage import SlippageRules
from risk.selectors import rating_rules
from risk.services.rating_settings import scoring_update, settings_ensure, sizing_update, slippage_update
from tests.bots.conftest import signed_in
from trading.config import RatingRules

pytestmark = [pytest.mark.django_db, pytest.mark.database]

D = Decimal
ALL = (SizingSettings, SlippageSettings, ScoringSettings)
each = pytest.mark.parametrize("model", ALL, ids=lambda model: model.__name__)


# --- columns and policy ---------------------------------------------------------------------------------------------


@each
def test_a_new_row_says_what_holds_without_one(model: type[RatingSettings]) -> None:
    rules = {
        SizingSettings: (SizingRules(),),
        SlippageSettings: (SlippageRules(),),
        ScoringSettings: (ScoreWeights(), ScoreScales()),
    }[model]
    assert settings_ensure(model).rules() == rules
    settings_ensure(model)
    assert model._default_manager.count() == 1
    assert rating_rules() == RatingRules()


@each
def test_every_rule_of_the_policy_is_a_column_with_the_policys_bounds(model: type[RatingSettings]) -> None:
    for part, bounds in model.parts.items():
        assert set(bounds) == set(part.__struct_fields__)
        for name, (low, high) in bounds.items():
            whole = name == "min_sample"
            # The other end of what bounds each other is out of the way.
            others = {"edge_cap_bps": 1000.0} if name == "edge_floor_bps" else {}
            for value in (low, high):
                part(**{name: int(value) if whole else float(value)} | others)
            for value in (D(low) - D("0.0001"), D(high) + D("0.0001")):
                with pytest.raises(ValueError, match=f"^{name} is "):
                    part(**{name: float(value)} | others)


@each
def test_the_database_keeps_settings_that_can_be(model: type[RatingSettings]) -> None:
    settings_ensure(model)
    rows = model._default_manager.all()
    for bounds in model.parts.values():
        for name, (_, high) in bounds.items():
            with pytest.raises(IntegrityError), transaction.atomic():
                rows.update(**{name: D(high) + 1})
    with pytest.raises(IntegrityError), transaction.atomic():
        model._default_manager.create(scope="two")
    with pytest.raises(IntegrityError), transaction.atomic():
        model._default_manager.create()


def test_the_database_keeps_a_floor_below_its_cap_and_a_weight_above_nothing() -> None:
    settings_ensure(SlippageSettings)
    settings_ensure(ScoringSettings)
    with pytest.raises(IntegrityError), transaction.atomic():
        SlippageSettings.objects.update(edge_floor_bps=5, edge_cap_bps=4)
    with pytest.raises(IntegrityError), transaction.atomic():
        ScoringSettings.objects.update(profit=0, liquidity=0, volatility=0, success=0, conditions=0)


# --- services -------------------------------------------------------------------------------------------------------


def test_what_is_set_is_what_engines_are_told(world: Any, django_assert_max_num_queries: Any) -> None:
    sizing_update(actor=world.operator, values={"depth_share": D("0.1")}, seen_version=1)
    slippage_update(actor=world.operator, values={"min_sample": 50, "cap_bps": D("7.5")}, seen_version=1)
    scoring_update(actor=world.operator, values={"profit": D(2), "prior_wins": D(9)}, seen_version=1)
    with django_assert_max_num_queries(3):
        rules = rating_rules()
    assert rules == RatingRules(
        sizing=SizingRules(depth_share=0.1),
        slippage=SlippageRules(min_sample=50, cap_bps=7.5),
        weights=ScoreWeights(profit=2.0),
        scales=ScoreScales(prior_wins=9.0),
    )
    messages = list(LogEntry.objects.order_by("id").values_list("change_message", flat=True))
    assert messages[0] == "Changed depth_share from 0.25 to 0.1 (version 2)."
    assert len(messages) == 3
    # Setting the same again is no change.
    assert sizing_update(actor=world.operator, values={"depth_share": D("0.1")}, seen_version=2).version == 2


def test_sizing_that_is_off_rates_nothing(world: Any, django_assert_num_queries: Any) -> None:
    sizing_update(actor=world.operator, values={"enabled": False}, seen_version=1)
    with django_assert_num_queries(1):
        assert rating_rules() is None
    assert LogEntry.objects.get().change_message == "Changed enabled from on to off (version 2)."


@pytest.mark.parametrize(
    ("update", "values", "field"),
    [
        (sizing_update, {"depth_share": D("1.5"), "band_bps": D(5)}, "depth_share"),
        (sizing_update, {"depth_share": D("NaN"), "band_bps": D(5)}, "depth_share"),
        (sizing_update, {"band_bps": D("1e400")}, "band_bps"),
        (sizing_update, {"band_bps": D(0)}, "band_bps"),
        (sizing_update, {"reward_full": None}, "reward_full"),
        (slippage_update, {"edge_floor_bps": D(21)}, "edge_floor_bps"),
        (slippage_update, {"min_sample": 0}, "min_sample"),
        (slippage_update, {"days": 0}, "days"),
        (slippage_update, {"cap_bps": D("Infinity")}, "cap_bps"),
        (
            scoring_update,
            dict.fromkeys(("profit", "liquidity", "volatility", "success", "conditions"), D(0)),
            "__all__",
        ),
        (scoring_update, {"profit": D("-0.1")}, "profit"),
    ],
    ids=lambda given: getattr(given, "__name__", str(given)),
)
def test_what_cannot_be_is_refused_by_field_and_nothing_is_saved(
    world: Any, update: Any, values: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        update(actor=world.operator, values=values, seen_version=1)
    assert list(refused.value.error_dict) == [field]
    assert rating_rules() == RatingRules()
    assert not LogEntry.objects.exists()


def test_the_second_of_two_operators_is_told_what_the_first_has_set(world: Any) -> None:
    sizing_update(actor=world.operator, values={"depth_share": D("0.5")}, seen_version=1)
    with pytest.raises(ValidationError) as refused:
        sizing_update(actor=world.operator, values={"depth_share": D("0.3"), "band_bps": D(10)}, seen_version=1)
    assert refused.value.messages == [
        "Somebody changed these settings meanwhile (version 2, you saw 1): depth_share is 0.5 now. Open them again."
    ]
    assert SizingSettings.objects.get().depth_share == D("0.5")


@pytest.mark.django_db(transaction=True)
def test_of_two_operators_at_once_one_is_told(world: Any) -> None:
    settings_ensure(SizingSettings)
    barrier = threading.Barrier(2)
    said: list[Any] = []

    def save(share: Decimal) -> None:
        barrier.wait(20)
        try:
            said.append(sizing_update(actor=world.operator, values={"depth_share": share}, seen_version=1).version)
        except ValidationError as problem:
            said.append(problem.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=partial(save, D(share))) for share in ("0.5", "0.75")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(map(str, said)) == ["2", "stale"]
    assert LogEntry.objects.count() == 1


def test_users_set_nothing(world: Any, anna: Client) -> None:
    with pytest.raises(PermissionDenied):
        sizing_update(actor=world.anna, values={"depth_share": D(1)}, seen_version=1)
    for model in ALL:
        row = settings_ensure(model)
        name = model._meta.model_name
        assert anna.get(reverse(f"admin:risk_{name}_changelist")).status_code == 403
        assert anna.post(reverse(f"admin:risk_{name}_change", args=[row.pk]), form_of(row)).status_code == 403


# --- pages ----------------------------------------------------------------------------------------------------------


def form_of(row: RatingSettings, **changes: str) -> dict[str, str]:
    form = {name: str(getattr(row, name)) for name in row.editable()}
    if form.get("enabled") == "True":
        form["enabled"] = "on"
    return form | {"seen_version": str(row.version)} | changes


def opened(model: type[RatingSettings]) -> tuple[RatingSettings, str]:
    row = settings_ensure(model)
    return row, reverse(f"admin:risk_{model._meta.model_name}_change", args=[row.pk])


def refused(answer: Any) -> dict[str, str]:
    assert answer.status_code == 200, "the form was taken"
    return {field: " ".join(texts) for field, texts in answer.context["adminform"].form.errors.items()}


@each
def test_opening_the_list_makes_the_row_and_its_page_explains_every_rule(
    world: Any, operator: Client, model: type[RatingSettings]
) -> None:
    assert operator.get(reverse(f"admin:risk_{model._meta.model_name}_changelist")).status_code == 200
    row = model._default_manager.get()
    page = operator.get(reverse(f"admin:risk_{model._meta.model_name}_change", args=[row.pk])).content.decode()
    for name in row.editable():
        assert f'name="{name}"' in page, name
        assert str(row._meta.get_field(name).help_text) in unescape(page), name


def test_a_form_is_saved_once_and_audited(world: Any, operator: Client) -> None:
    row, address = opened(ScoringSettings)
    assert 'value="0.3"' in operator.get(address).content.decode()
    form = form_of(row, profit="2", volatility="0")
    assert operator.post(address, form).status_code == 302
    rules = rating_rules()
    assert rules is not None
    assert (rules.weights.profit, rules.weights.volatility) == (2.0, 0.0)
    assert "profit from 0.3 to 2" in LogEntry.objects.get().change_message
    stale = refused(operator.post(address, form | {"profit": "3"}))
    assert "(version 2, you saw 1): profit is 2 now." in stale["__all__"]
    assert rating_rules() == rules


def test_a_switch_that_is_off_is_saved(world: Any, operator: Client) -> None:
    row, address = opened(SizingSettings)
    form = form_of(row)
    del form["enabled"]
    assert operator.post(address, form).status_code == 302
    assert rating_rules() is None


@pytest.mark.parametrize(
    ("model", "changes", "field", "sentence"),
    [
        (SizingSettings, {"depth_share": "NaN"}, "depth_share", "(given 'NaN')"),
        (SizingSettings, {"depth_share": "1,5"}, "depth_share", "(given '1,5')"),
        (SizingSettings, {"depth_share": "1e400"}, "depth_share", "Must be below 1e9 (given 1e400)."),
        (SizingSettings, {"depth_share": "-0.25"}, "depth_share", "Must lie between 0 and 1 (given -0.25)."),
        (SizingSettings, {"band_bps": "0"}, "band_bps", "Must lie between 0.01 and 1000 (given 0.0)."),
        (SizingSettings, {"band_bps": ""}, "band_bps", "required"),
        (SlippageSettings, {"edge_floor_bps": "5", "edge_cap_bps": "4"}, "edge_floor_bps", "above edge_cap_bps of 4"),
        (SlippageSettings, {"min_sample": "2.5"}, "min_sample", "At most 0 decimal places (given 2.5)."),
        (SlippageSettings, {"min_sample": "-3"}, "min_sample", "-3"),
        (SlippageSettings, {"days": "91"}, "days", "Must lie between 1 and 90 (given 91)."),
        (SlippageSettings, {"days": "100000"}, "days", "100000"),
        (ScoringSettings, {"profit": "1e400"}, "profit", "(given 1e400)"),
        (
            ScoringSettings,
            dict.fromkeys(WEIGHTS, "0"),
            "__all__",
            "The weights add up to 0; at least one of them must be above 0.",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_an_error_of_its_field(
    world: Any, operator: Client, model: type[RatingSettings], changes: dict[str, str], field: str, sentence: str
) -> None:
    row, address = opened(model)
    given = refused(operator.post(address, form_of(row, **changes)))
    assert list(given) == [field]
    assert sentence in given[field]
    assert rating_rules() == RatingRules()
    assert not LogEntry.objects.exists()


def test_an_operator_by_role_may_do_all_this(world: Any) -> None:
    clerk = world.user("clerk")
    clerk.groups.add(Group.objects.get(name=OPERATORS))
    row, address = opened(SlippageSettings)
    assert signed_in(clerk).post(address, form_of(row, days="14")).status_code == 302
    assert SlippageSettings.objects.get().days == 14
