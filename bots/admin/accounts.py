"""Exchange accounts: credentials go in and never come out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.decorators import display
from unfold.widgets import UnfoldAdminPasswordWidget

from bots.admin.base import ChoicesFilter, ReadOnlyAdmin, ScopedRelatedFilter, ServiceAdmin, ServiceForm
from bots.admin.display import ACCOUNT_STATES, BAD, EMPTY, ENVIRONMENTS, age, amount, badge, link, state
from bots.models import Balance, Difference, ExchangeAccount, sees_everything
from bots.services.accounts import account_arm, account_create, account_delete, account_update, credentials_set
from bots.services.differences import SETTLE, reconcile_request
from trading.config import Credentials

_SECRETS = ("api_key", "secret", "passphrase")


def _secret(label: str, text: str) -> forms.CharField:
    # render_value=False: what was typed is not sent back, not even after an error.
    widget = UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}, render_value=False)
    return forms.CharField(label=label, required=False, strip=True, max_length=4096, widget=widget, help_text=text)


class AccountForm(ServiceForm):
    """An account as its owner edits it; empty secret fields leave the stored credentials alone."""

    api_key = _secret("API key", "Write-only. Leave empty to keep what is stored. Give it no withdrawal permission.")
    secret = _secret("Secret", "Write-only.")
    passphrase = _secret("Passphrase", "Write-only; only where the exchange has one (OKX).")

    class Meta:
        model = ExchangeAccount
        fields = ("owner", "exchange", "label", "enabled", "paper_balances")

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        for name in ("api_key", "secret"):
            if any(cleaned.get(field) for field in _SECRETS) and not cleaned.get(name):
                self.add_error(name, "Enter the API key and its secret together.")
        return cleaned

    def perform(self, actor: Any) -> ExchangeAccount:
        values = {name: value for name, value in self.cleaned_data.items() if name not in _SECRETS}
        secrets = {name: self.cleaned_data.get(name, "") for name in _SECRETS}
        credentials = Credentials(**secrets) if any(secrets.values()) else None
        if self.instance.pk is None:
            owner = values.pop("owner", None) or actor
            return account_create(owner=owner, actor=actor, credentials=credentials, **values)
        stored = ExchangeAccount.objects.select_related("exchange").get(pk=self.instance.pk)
        account = account_update(account=stored, actor=actor, **values)
        return (
            account if credentials is None else credentials_set(account=account, actor=actor, credentials=credentials)
        )


@admin.register(ExchangeAccount)
class ExchangeAccountAdmin(ServiceAdmin):
    form = AccountForm
    list_display = (
        "label", "owner", "exchange", "environment", "observed", "why", "foreign", "open_differences", "swept",
        "reconciled", "key", "armed", "enabled", "bot_count",
    )  # fmt: skip
    list_filter = (
        ("observed_state", ChoicesFilter),
        ("exchange", ScopedRelatedFilter),
        "armed_for_live",
        "enabled",
        ("owner", ScopedRelatedFilter),
    )
    search_fields = ("label", "exchange__code", "exchange__name", "owner__username")
    # Named here: a query that groups, as the count of bots does, has no default order.
    ordering = ("owner", "exchange__code", "label")
    actions = ("accounts_arm", "accounts_disarm")
    readonly_fields = (
        "key", "set", "armed", "permissions_seen", "observed", "observed_reason", "seen", "foreign",
        "open_differences", "swept", "reconciled", "matched",
    )  # fmt: skip
    change_form_outer_before_template = "admin/bots/exchangeaccount/buttons.html"

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request).select_related("owner", "exchange")
        # The ciphertext is of no use to a page.
        return rows.defer("credentials").annotate(
            bots_all=Count("bots", distinct=True),
            differences_open=Count("differences", filter=Q(differences__state=Difference.State.OPEN), distinct=True),
        )

    def get_fieldsets(self, request: HttpRequest, obj: ExchangeAccount | None = None) -> Any:
        owner = ("owner",) if sees_everything(request.user) else ()
        state = (
            ("Connection", {"fields": (("observed", "seen"), "observed_reason", ("swept", "foreign"))}),
            ("Comparison with the exchange", {"fields": (("reconciled", "matched"), "open_differences")}),
            ("State", {"fields": (("key", "set", "armed"), "permissions_seen")}),
        )
        return (
            (None, {"fields": (*owner, "exchange", "label", "enabled")}),
            ("Credentials", {"fields": _SECRETS}),
            ("Paper", {"fields": ("paper_balances",)}),
            *(() if obj is None else state),
        )

    def get_readonly_fields(self, request: HttpRequest, obj: ExchangeAccount | None = None) -> Any:
        return (*self.readonly_fields, "owner", "exchange") if obj is not None else self.readonly_fields

    @display(description="Environment", ordering="exchange__environment")
    def environment(self, account: ExchangeAccount) -> SafeString:
        return state(account.exchange, "environment", ENVIRONMENTS)

    @display(description="Key")
    def key(self, account: ExchangeAccount) -> SafeString | str:
        if not account.has_credentials:
            return "none (paper only)"
        short = (account.key_fingerprint or "")[:8]
        return format_html('<code title="Fingerprint {}…">…{}</code>', short, account.key_last4)

    @display(description="Observed", ordering="observed_state")
    def observed(self, account: ExchangeAccount) -> SafeString:
        return state(account, "observed_state", ACCOUNT_STATES)

    @display(description="Why")
    def why(self, account: ExchangeAccount) -> SafeString:
        return format_html('<span class="block min-w-48">{}</span>', account.observed_reason or EMPTY)

    @display(description="Seen", ordering="observed_at")
    def seen(self, account: ExchangeAccount) -> Any:
        return age(account.observed_at)

    @display(description="Orders not ours")
    def foreign(self, account: ExchangeAccount) -> str:
        return EMPTY if account.foreign_orders is None else str(account.foreign_orders)

    @display(description="Differences")
    def open_differences(self, account: ExchangeAccount) -> SafeString | str:
        if not account.differences_open:
            return EMPTY if account.reconciled_at is None else "0"
        address = f"{reverse('admin:bots_difference_changelist')}?account__id__exact={account.pk}&state__exact=open"
        return format_html('<a href="{}">{}</a>', address, badge(str(account.differences_open), BAD))

    @display(description="Last sweep", ordering="swept_at")
    def swept(self, account: ExchangeAccount) -> Any:
        return age(account.swept_at)

    @display(description="Last compared", ordering="reconciled_at")
    def reconciled(self, account: ExchangeAccount) -> Any:
        return age(account.reconciled_at)

    @display(description="Books last matched", ordering="matched_at")
    def matched(self, account: ExchangeAccount) -> Any:
        return age(account.matched_at)

    @display(description="Armed", ordering="armed_for_live")
    def armed(self, account: ExchangeAccount) -> SafeString:
        return badge("Armed for live", BAD) if account.armed_for_live else badge("Not armed")

    @display(description="Bots")
    def bot_count(self, account: ExchangeAccount) -> int:
        return account.bots_all

    @display(description="Credentials set", ordering="credentials_set_at")
    def set(self, account: ExchangeAccount) -> Any:
        return age(account.credentials_set_at)

    @admin.action(description="Arm the selected accounts for live orders", permissions=["change"])
    def accounts_arm(self, request: HttpRequest, queryset: Any) -> None:
        self._each(request, queryset, lambda account: account_arm(account=account, actor=request.user, armed=True))

    @admin.action(description="Disarm the selected accounts", permissions=["change"])
    def accounts_disarm(self, request: HttpRequest, queryset: Any) -> None:
        self._each(request, queryset, lambda account: account_arm(account=account, actor=request.user, armed=False))

    def _each(self, request: HttpRequest, queryset: Any, act: Callable[[ExchangeAccount], ExchangeAccount]) -> None:
        for account in queryset:
            try:
                done = act(account)
            except ValidationError as problem:
                self.message_user(request, " ".join(problem.messages), messages.ERROR)
            else:
                self.message_user(request, f"{done.label} is {'armed' if done.armed_for_live else 'disarmed'}.")

    # --- comparison ------------------------------------------------------------------------------------------------

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        context = {"may_reconcile": request.user.has_perm(SETTLE), **(extra_context or {})}
        return super().change_view(request, object_id, form_url, context)

    @method_decorator(require_POST)
    def reconcile_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        account = self.get_or_404(request, object_id)
        try:
            command = reconcile_request(owner_id=account.owner_id, actor=request.user)
        except ValidationError as problem:
            self.message_user(request, " ".join(problem.messages), messages.ERROR)
        else:
            self.message_user(request, f"{command} is asked for; its result is on the page of commands.")
        return self.back_to(request)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        return [
            path("<path:object_id>/reconcile/", view(self.reconcile_view), name="bots_exchangeaccount_reconcile"),
            *super().get_urls(),
        ]

    def delete_by_service(self, request: HttpRequest, obj: ExchangeAccount) -> None:
        account_delete(account=obj, actor=request.user)


@admin.register(Balance)
class BalanceAdmin(ReadOnlyAdmin):
    list_display = (
        "asset",
        "owner",
        "account_link",
        "exchange",
        "free_amount",
        "used_amount",
        "reserved_amount",
        "seen",
    )
    list_filter = (
        ("account__exchange", ScopedRelatedFilter),
        ("account", ScopedRelatedFilter),
        ("owner", ScopedRelatedFilter),
    )
    search_fields = ("asset", "account__label")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("owner", "account__exchange").with_reserved()

    @display(description="Account", ordering="account__label")
    def account_link(self, balance: Balance) -> Any:
        return link(balance.account, balance.account.label)

    @display(description="Exchange", ordering="account__exchange__code")
    def exchange(self, balance: Balance) -> Any:
        return balance.account.exchange

    @display(description="Free", ordering="free")
    def free_amount(self, balance: Balance) -> str:
        return amount(balance.free)

    @display(description="Used", ordering="used")
    def used_amount(self, balance: Balance) -> str:
        return amount(balance.used)

    @display(description="Reserved by our orders")
    def reserved_amount(self, balance: Balance) -> str:
        return amount(balance.reserved) if balance.reserved else EMPTY

    @display(description="Age", ordering="at")
    def seen(self, balance: Balance) -> Any:
        return age(balance.at)
