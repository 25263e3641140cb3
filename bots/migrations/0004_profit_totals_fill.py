"""Tell the modes of stored trades apart, and sum what they realised."""

from datetime import UTC, datetime, timedelta

from django.db import migrations
from django.db.models import Exists, Max, OuterRef
from django.db.models.functions import TruncMinute
from django.utils import timezone

from bots.fields import MoneySum, exact_sum

# As bots.models.profits and bots.services.profits have them.
ALL_TIME = datetime(1970, 1, 1, tzinfo=UTC)
SPAN = timedelta(minutes=5)
KEEP_SPANS = timedelta(days=2)


def tell_modes_apart(apps, schema_editor):
    trades, orders = apps.get_model("bots", "Trade").objects, apps.get_model("bots", "Order").objects
    for environment in ("simulated", "testnet"):
        there = orders.filter(trade=OuterRef("pk"), market__exchange__environment=environment)
        trades.filter(Exists(there), mode="live").update(mode=environment)


def forget_modes(apps, schema_editor):
    apps.get_model("bots", "Trade").objects.filter(mode__in=["simulated", "testnet"]).update(mode="live")


def sum_trades(apps, schema_editor):
    totals = apps.get_model("bots", "ProfitTotal")
    counted = apps.get_model("bots", "Trade").objects.filter(realised_profit__isnull=False, closed_at__isnull=False)
    recent = counted.filter(closed_at__gte=timezone.now() - KEEP_SPANS).annotate(minute=TruncMinute("closed_at"))
    sums = {"sum": MoneySum("realised_profit"), "last": Max("closed_at")}
    columns = ("owner_id", "bot_id", "mode", "quote")
    rows = {}
    for row in counted.order_by().values(*columns).annotate(**sums):
        add(rows, tuple(row[name] for name in columns), ALL_TIME, row)
    for row in recent.order_by().values(*columns, "minute").annotate(**sums).iterator():
        start = row["minute"] - (row["minute"] - ALL_TIME) % SPAN
        add(rows, tuple(row[name] for name in columns), start, row)
    totals.objects.bulk_create(
        (
            totals(**dict(zip(columns, key)), start=start, profit=profit, last_closed_at=last)
            for (key, start), (profit, last) in rows.items()
        ),
        batch_size=100,
    )


def add(rows, key, start, row):
    profit, last = rows.get((key, start), (0, row["last"]))
    rows[key, start] = exact_sum([profit, row["sum"]]), max(last, row["last"])


def forget_sums(apps, schema_editor):
    apps.get_model("bots", "ProfitTotal").objects.all().delete()


class Migration(migrations.Migration):

    dependencies = [
        ("bots", "0003_profit_totals"),
    ]

    operations = [
        migrations.RunPython(tell_modes_apart, forget_modes),
        migrations.RunPython(sum_trades, forget_sums),
    ]
