"""What pages that write through services share: a form that tries its service first, and a page that calls it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.admin import ModelAdmin, TabularInline

from risk.services.revision import revision_hold

OPERATE_ALL = "bots.operate_all"


class ReadOnly:
    """Rows that the platform writes and nobody edits."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnlyInline(ReadOnly, TabularInline):
    """Rows under their parent, to be read."""

    extra = 0
    can_delete = False
    show_change_link = True
    hide_title = True
    tab = False


class ServiceForm(forms.ModelForm):
    """A form saved by a service, which also checks it.

    When the fields are right, the service runs once in a savepoint that is rolled back: what it refuses becomes an
    error of the form, with everything typed still in it. :meth:`perform` then runs it for good.
    """

    actor: Any = None

    def perform(self, actor: Any) -> models.Model:
        """Call the services with what was entered and return the row."""
        raise NotImplementedError

    def hold(self) -> None:
        """Keep others from changing, between the trial and the change, what the service looks at; nothing, unless
        a form says so."""

    def _clean_fields(self) -> None:
        super()._clean_fields()
        for name, field in self.fields.items():
            if name in self.errors and isinstance(field, forms.ModelMultipleChoiceField):
                # The autocomplete widget would look up what was refused, and fail on what is not a key.
                self.data = self.data.copy()
                self.data.setlist(self.add_prefix(name), [])

    def _post_clean(self) -> None:
        super()._post_clean()
        if self.errors:
            return
        self.hold()
        try:
            with transaction.atomic():
                self.perform(self.actor)
                transaction.set_rollback(True)
        except ValidationError as problem:
            self._refuse(problem)

    def _refuse(self, problem: ValidationError) -> None:
        if not hasattr(problem, "error_dict"):
            self.add_error(None, problem)
            return
        for field, errors in problem.error_dict.items():
            self.add_error(field if field in self.fields else None, errors)


class ServicePage:
    """Mixed into a page whose form is a :class:`ServiceForm`; deletion goes through :meth:`delete_by_service`."""

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        return type(form.__name__, (form,), {"actor": request.user})

    def save_form(self, request: HttpRequest, form: Any, change: bool) -> Any:
        # The service saves; the form's own save would set relations past it.
        return form.instance

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        saved = form.perform(request.user)
        obj.pk = saved.pk
        obj.refresh_from_db()

    def save_related(self, request: HttpRequest, form: Any, formsets: Iterable[Any], change: bool) -> None:
        """The service has set the relations."""

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        return []

    def delete_by_service(self, request: HttpRequest, obj: Any) -> None:
        """Call the service that deletes ``obj``; it may raise ValidationError."""
        raise NotImplementedError

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self.delete_by_service(request, obj)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        try:
            return super().delete_view(request, object_id, extra_context)
        except ValidationError as problem:
            self.message_user(request, " ".join(problem.messages), level="error")
            name = f"admin:{self.opts.app_label}_{self.opts.model_name}_change"
            return HttpResponseRedirect(reverse(name, args=[object_id]))

    # The services have written down who did what.
    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> None:
        """Nothing is left to log."""

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> None:
        """Nothing is left to log."""

    def log_deletions(self, request: HttpRequest, queryset: Any) -> None:
        """Nothing is left to log."""


class RiskForm(ServiceForm):
    """A change that others of the risk app wait for; it carries the version of the row it was opened at."""

    seen_version = forms.IntegerField(widget=forms.HiddenInput, required=False)

    def hold(self) -> None:
        revision_hold()


class RiskPage(ServicePage, ModelAdmin):
    """A page of the risk app: operators see all rows, users those over them."""

    list_per_page = 50

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        actions = super().get_actions(request)
        # Deletes in bulk, past the services.
        actions.pop("delete_selected", None)
        return actions

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Leave out the version where nothing can be changed: it is the form's, not the row's."""
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or self.has_change_permission(request, obj):
            return fieldsets
        return [
            (name, {**options, "fields": tuple(field for field in options["fields"] if field != "seen_version")})
            for name, options in fieldsets
        ]


def operates(request: HttpRequest) -> bool:
    """Return whether the user works on every owner's rows."""
    return bool(request.user.has_perm(OPERATE_ALL))
