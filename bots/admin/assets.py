"""Assets, and what each exchange means by their codes: operators say what networks and contracts leave open."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import display

from bots.admin.base import (
    ChoicesFilter,
    ReadOnlyInline,
    ScopedRelatedFilter,
    ServiceAdmin,
    ServiceForm,
)
from bots.admin.display import age
from bots.models import Asset, ListedAsset
from bots.services.wallets import asset_confirm, listing_rule


class ListingColumns:
    """What an exchange tells of a coin, as columns and fields that nobody edits."""

    @display(description="Networks")
    def contracts(self, listing: ListedAsset) -> SafeString | str:
        networks = listing.to_policy().networks
        if not networks:
            return "not told"
        rows = [(network.name, network.contract or "its own coin, or untold") for network in networks]
        return format_html_join("", "<div>{}: {}</div>", rows)

    @display(description="Wallets")
    def wallets(self, listing: ListedAsset) -> str:
        told = listing.to_policy()
        words = {True: "open", False: "suspended", None: "not told"}
        return f"deposits {words[told.can_deposit]}, withdrawals {words[told.can_withdraw]}"

    @display(description="Told", ordering="read_at")
    def read(self, listing: ListedAsset) -> Any:
        return age(listing.read_at)


class ListingInline(ListingColumns, ReadOnlyInline):
    model = ListedAsset
    fields = ("exchange", "ruling", "note", "contracts", "wallets", "read")
    readonly_fields = ("contracts", "wallets", "read")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("exchange")


class AssetForm(ServiceForm):
    class Meta:
        model = Asset
        fields = ("code", "name", "confirmed", "note")

    def perform(self, actor: Any) -> Asset:
        values = dict(self.cleaned_data)
        code = values.pop("code", self.instance.pk)
        row, _ = Asset.objects.get_or_create(code=code)
        return asset_confirm(actor=actor, asset=row, **values)


@admin.register(Asset)
class AssetAdmin(ServiceAdmin):
    owner_path = None
    form = AssetForm
    inlines = (ListingInline,)
    list_display = ("code", "name", "confirmed")
    list_filter = ("confirmed",)
    search_fields = ("code", "name")

    def get_readonly_fields(self, request: HttpRequest, obj: Asset | None = None) -> Any:
        return ("code",) if obj is not None else ()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # markets and pairs refer to it


class ListedAssetForm(ServiceForm):
    class Meta:
        model = ListedAsset
        fields = ("ruling", "note")

    seen = forms.CharField(widget=forms.HiddenInput, required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["seen"].initial = self.instance.ruling

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        stored = ListedAsset.objects.get(pk=self.instance.pk)
        if stored.ruling != cleaned.get("seen", ""):
            raise ValidationError(
                f"Somebody changed this meanwhile: it is '{stored.get_ruling_display()}' now. Open it again.",
                code="stale",
            )
        return cleaned

    def perform(self, actor: Any) -> ListedAsset:
        ruling, note = self.cleaned_data["ruling"], self.cleaned_data["note"]
        return listing_rule(actor=actor, listing=self.instance, ruling=ruling, note=note)


@admin.register(ListedAsset)
class ListedAssetAdmin(ListingColumns, ServiceAdmin):
    """What exchanges tell of their coins is read only; what an operator says of it is not."""

    owner_path = None
    form = ListedAssetForm
    fields = ("asset", "exchange", "contracts", "wallets", "read", "ruling", "note", "seen")
    readonly_fields = ("asset", "exchange", "contracts", "wallets", "read")
    list_display = ("asset", "exchange", "ruling", "contracts", "wallets", "read")
    list_filter = (("exchange", ScopedRelatedFilter), ("ruling", ChoicesFilter))
    search_fields = ("asset__code", "note")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("exchange", "asset")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # exchanges tell what they list

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
