"""What every admin page of ours has: rows of the user's own, services that write, and no way around either."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.auth import get_user_model
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.widgets import UnfoldAdminTextInputWidget

from bots.fields import MoneyField
from bots.models import sees_everything
from risk.admin.service_pages import ReadOnly, ReadOnlyInline, ServiceForm, ServicePage

__all__ = [
    "ChoicesFilter", "PlatformAdmin", "ReadOnly", "ReadOnlyAdmin", "ReadOnlyInline", "ScopedRelatedFilter",
    "ServiceAdmin", "ServiceForm", "visible",
]  # fmt: skip

logger = logging.getLogger("arb.admin")

# What a filter's links ask of its column; a related row is named by its key, never by another of its columns.
_COMPARISONS = frozenset(
    {"exact", "in", "isnull", "gt", "gte", "lt", "lte", "year", "month", "day", "id__exact", "id__in", "code__exact"}
)


class ScopedRelatedFilter(RelatedDropdownFilter):
    """A filter by a related row that offers only rows the user may see (Django's asks the default manager)."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[tuple[Any, str]]:
        return [(row.pk, str(row)) for row in visible(field.remote_field.model, request)[:500]]


class ChoicesFilter(ChoicesDropdownFilter):
    """A filter by a choice, as a drop-down."""


def visible(model: type[models.Model], request: HttpRequest) -> models.QuerySet[Any]:
    """Return the rows of a model that the user may choose: what the model's own admin page would list."""
    if model is get_user_model():
        everyone = model._default_manager.order_by("username")
        return everyone if sees_everything(request.user) else everyone.filter(pk=request.user.pk)
    page = admin.site._registry.get(model)
    return page.get_queryset(request) if page is not None else model._default_manager.none()


def _without(name: str, fields: Iterable[Any]) -> list[Any]:
    """Return a fieldset's fields, which may stand in groups beside each other, without one."""
    kept = [field if isinstance(field, str) else _without(name, field) for field in fields if field != name]
    return [field for field in kept if field]


class PlatformAdmin(ModelAdmin):
    """A page scoped by owner.

    ``owner_path`` leads from the row to its owner; None is for rows that everybody shares.
    """

    owner_path: ClassVar[str | None] = "owner"
    list_per_page = 50
    list_filter_submit = False
    show_full_result_count = False
    warn_unsaved_form = True
    formfield_overrides: ClassVar[dict[Any, Any]] = {MoneyField: {"widget": UnfoldAdminTextInputWidget}}

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        rows = super().get_queryset(request)
        if self.owner_path is None or sees_everything(request.user):
            return rows
        return rows.filter(**{self.owner_path: request.user.pk})

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        columns = list(super().get_list_display(request))
        return columns if sees_everything(request.user) else [name for name in columns if name != "owner"]

    def get_list_filter(self, request: HttpRequest) -> list[Any]:
        filters = list(super().get_list_filter(request))
        if sees_everything(request.user):
            return filters
        return [item for item in filters if not (isinstance(item, tuple) and item[0].endswith("owner"))]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Leave out whose row it is where that is always the user: it would link to a page they may not open."""
        fieldsets = super().get_fieldsets(request, obj)
        if self.owner_path is None or sees_everything(request.user):
            return fieldsets
        return [
            (name, {**options, "fields": _without(self.owner_path, options["fields"])}) for name, options in fieldsets
        ]

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Allow what the page itself offers. Django allows every column of the row, which answers questions about
        columns that are not shown."""
        offered = {item[0] if isinstance(item, tuple) else item for item in self.get_list_filter(request)}
        offered |= {getattr(item, "parameter_name", None) for item in self.get_list_filter(request)}
        offered |= {self.date_hierarchy, "pk", "id"}
        for name in offered:
            if isinstance(name, str) and (lookup == name or lookup.removeprefix(f"{name}__") in _COMPARISONS):
                return True
        return False

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        kwargs.setdefault("queryset", visible(db_field.remote_field.model, request))
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        kwargs.setdefault("queryset", visible(db_field.remote_field.model, request))
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        actions = super().get_actions(request)
        # Deletes in bulk, past the services.
        actions.pop("delete_selected", None)
        return actions

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> HttpResponse:
        logger.warning("user %s asked for %s %r, which is not theirs to see", request.user.pk, opts.label, object_id)
        raise Http404(f"There is no {opts.verbose_name} {object_id[:40]!r} that you may see.")

    def get_or_404(self, request: HttpRequest, object_id: str) -> Any:
        """Return the row if the user may see it."""
        row = self.get_object(request, unquote(object_id))
        return row if row is not None else self._get_obj_does_not_exist_redirect(request, self.opts, object_id)

    def back_to(self, request: HttpRequest) -> HttpResponseRedirect:
        """Return to the page of ours the button was on, else to the list."""
        listing = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")
        path = request.POST.get("next", "")
        return HttpResponseRedirect(path if path.startswith(listing) else listing)


class ReadOnlyAdmin(ReadOnly, PlatformAdmin):
    """A page of rows to be read."""

    actions = None


class ServiceAdmin(ServicePage, PlatformAdmin):
    """A page scoped by owner whose form is a :class:`ServiceForm`."""
