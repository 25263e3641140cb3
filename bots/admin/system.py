"""Leases, commands, the installation, the audit log, users and schedules."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString
from django_celery_beat import admin as beat
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from bots.admin.base import ChoicesFilter, ReadOnlyAdmin, ScopedRelatedFilter
from bots.admin.display import COMMAND_STATES, EMPTY, GOOD, age, badge, duration, state, took
from bots.models import Command, Installation, OwnerLease


@admin.register(OwnerLease)
class OwnerLeaseAdmin(ReadOnlyAdmin):
    list_display = ("owner", "held", "holder", "token", "taken", "left")
    search_fields = ("owner__username", "holder")

    @display(description="State")
    def held(self, lease: OwnerLease) -> SafeString:
        return badge("Held", GOOD) if lease.expires_at > timezone.now() else badge("Free")

    @display(description="Taken", ordering="taken_at")
    def taken(self, lease: OwnerLease) -> Any:
        return age(lease.taken_at)

    @display(description="Expires in", ordering="expires_at")
    def left(self, lease: OwnerLease) -> str:
        span = lease.expires_at - timezone.now()
        return duration(span) if span.total_seconds() > 0 else EMPTY


@admin.register(Command)
class CommandAdmin(ReadOnlyAdmin):
    list_display = ("__str__", "owner", "status_badge", "payload", "requested_by", "result", "asked", "took")
    list_filter = (("status", ChoicesFilter), ("kind", ChoicesFilter), "created_at", ("owner", ScopedRelatedFilter))
    search_fields = ("idempotency_key", "result")
    # As text: an account that asked may be one whose page the reader may not open.
    exclude = ("requested_by",)
    readonly_fields = ("asked_by",)

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("owner", "requested_by")

    @display(description="Status", ordering="status")
    def status_badge(self, command: Command) -> SafeString:
        return state(command, "status", COMMAND_STATES)

    @display(description="Requested by")
    def asked_by(self, command: Command) -> str:
        return str(command.requested_by or EMPTY)

    @display(description="Age", ordering="created_at")
    def asked(self, command: Command) -> Any:
        return age(command.created_at)

    @display(description="Took")
    def took(self, command: Command) -> str:
        return took(command.created_at, command.finished_at)


@admin.register(Installation)
class InstallationAdmin(ReadOnlyAdmin):
    owner_path = None
    list_display = ("id_prefix", "created_at")


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnlyAdmin):
    """Who changed what. Each user sees what they did, operators see everybody's."""

    owner_path = "user"
    list_display = ("action_time", "user", "content_type", "object_repr", "action_flag", "change_message")
    list_filter = ("action_flag", "action_time", ("user", ScopedRelatedFilter))
    search_fields = ("object_repr", "change_message", "user__username")
    date_hierarchy = "action_time"

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("user", "content_type")


admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "is_active", "is_staff", "is_superuser", "last_login")


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):
    pass


for model in (PeriodicTask, IntervalSchedule, CrontabSchedule, SolarSchedule, ClockedSchedule):
    admin.site.unregister(model)


class _TaskSelect(UnfoldAdminSelectWidget, beat.TaskSelectWidget):
    pass


class _PeriodicTaskForm(beat.PeriodicTaskForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["task"].widget = UnfoldAdminTextInputWidget()
        self.fields["regtask"].widget = _TaskSelect()


@admin.register(PeriodicTask)
class PeriodicTaskAdmin(beat.PeriodicTaskAdmin, ModelAdmin):
    form = _PeriodicTaskForm


@admin.register(IntervalSchedule)
class IntervalScheduleAdmin(ModelAdmin):
    pass


@admin.register(CrontabSchedule)
class CrontabScheduleAdmin(beat.CrontabScheduleAdmin, ModelAdmin):
    pass
