
import django.db.models.deletion
from decimal import Decimal
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('risk', '0002_repair_rules'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='BreakerSettings',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('scope', models.CharField(choices=[('global', 'Everything'), ('owner', 'Owner'), ('bot', 'Bot'), ('account', 'Account'), ('exchange', 'Exchange'), ('pair', 'Pair'), ('pair_on_exchange', 'Pair on exchange')], editable=False, max_length=16, unique=True)),
                ('cooldown_seconds', models.DecimalField(decimal_places=6, default=Decimal('300'), help_text='Seconds the first trip keeps it open.', max_digits=15, verbose_name='cool-down')),
                ('cooldown_growth', models.DecimalField(decimal_places=6, default=Decimal('2'), help_text='Factor of the cool-down for each trip in a row.', max_digits=15, verbose_name='growth')),
                ('max_cooldown_seconds', models.DecimalField(decimal_places=6, default=Decimal('14400'), help_text='Seconds; at most 7 days.', max_digits=15, verbose_name='longest cool-down')),
                ('forget_seconds', models.DecimalField(decimal_places=6, default=Decimal('86400'), help_text='Seconds closed until a trip counts as the first.', max_digits=15, verbose_name='forgotten after')),
                ('probe_edge_factor', models.DecimalField(decimal_places=6, default=Decimal('1.5'), help_text='Factor of the least net edge for a probe.', max_digits=15, verbose_name="probe's edge")),
                ('probe_seconds', models.DecimalField(decimal_places=6, default=Decimal('60'), help_text='Seconds until an unreported probe is free again.', max_digits=15, verbose_name="probe's time")),
                ('steps', models.CharField(default='25 50 100', help_text='Shares of the size in percent, rising to 100, with spaces between: 25 50 100.', max_length=64, verbose_name='steps back')),
                ('clean_per_step', models.PositiveIntegerField(default=3, help_text='Trades without a loss that earn the next step.', verbose_name='clean trades a step')),
                ('consecutive_losses', models.PositiveIntegerField(blank=True, help_text='Trades in a row at a loss; empty: off.', null=True, verbose_name='losses in a row')),
                ('window_loss', models.DecimalField(blank=True, decimal_places=6, help_text='Net, in the quote asset; empty: off.', max_digits=15, null=True, verbose_name='loss in the window')),
                ('window_seconds', models.DecimalField(decimal_places=6, default=Decimal('3600'), help_text='Seconds of that window.', max_digits=15, verbose_name='window')),
                ('error_rate', models.DecimalField(blank=True, decimal_places=6, help_text='Share of errors among answers, such as 0.5; empty: off.', max_digits=15, null=True, verbose_name='error rate')),
                ('error_sample', models.PositiveIntegerField(default=20, help_text='How many of the last answers that is asked of.', verbose_name='answers looked at')),
                ('rejects', models.PositiveIntegerField(blank=True, help_text='Rejected orders within their time; empty: off.', null=True, verbose_name='rejected orders')),
                ('rejects_seconds', models.DecimalField(decimal_places=6, default=Decimal('60'), help_text='Seconds.', max_digits=15, verbose_name='time of rejected orders')),
                ('stale_seconds', models.DecimalField(blank=True, decimal_places=6, help_text='Seconds the newest data may be old; empty: off.', max_digits=15, null=True, verbose_name='stale data')),
                ('latency_ms', models.DecimalField(blank=True, decimal_places=6, help_text='Milliseconds the median answer may take; empty: off.', max_digits=15, null=True, verbose_name='latency')),
                ('latency_sample', models.PositiveIntegerField(default=20, help_text='How many of the last answers that is asked of.', verbose_name='answers measured')),
                ('one_legged', models.PositiveIntegerField(blank=True, help_text='Trades filled on one side only, in their time; empty: off.', null=True, verbose_name='one-legged trades')),
                ('one_legged_seconds', models.DecimalField(decimal_places=6, default=Decimal('3600'), help_text='Seconds.', max_digits=15, verbose_name='time of one-legged trades')),
                ('reconciliation_difference', models.BooleanField(default=False, help_text="A difference from the exchange's books trips at once.", verbose_name='difference of the books')),
                ('daily_loss', models.BooleanField(default=False, help_text="The day's loss from its peak trips until midnight UTC.", verbose_name='daily loss')),
                ('share_of_equity', models.DecimalField(decimal_places=6, default=Decimal('0.02'), help_text='Of the present equity, such as 0.02.', max_digits=15, verbose_name='share of equity')),
                ('share_of_profit', models.DecimalField(decimal_places=6, default=Decimal('0.5'), help_text="Of the day's peak profit, added to it.", max_digits=15, verbose_name='share of profit')),
                ('floor', models.DecimalField(decimal_places=6, default=Decimal('50'), help_text='In the quote asset.', max_digits=15, verbose_name='least threshold')),
                ('ceiling', models.DecimalField(decimal_places=6, default=Decimal('10000'), help_text='In the quote asset.', max_digits=15, verbose_name='greatest threshold')),
                ('version', models.PositiveIntegerField(default=1, editable=False)),
                ('changed_at', models.DateTimeField(auto_now=True)),
            ],
            options={
                'verbose_name': 'circuit breaker settings',
                'verbose_name_plural': 'circuit breaker settings',
                'ordering': ('id',),
                'default_permissions': ('view', 'change'),
                'constraints': [models.CheckConstraint(condition=models.Q(('clean_per_step__gte', 1), ('cooldown_growth__gte', 1), ('cooldown_seconds__gte', 1), ('forget_seconds__gte', 0), ('max_cooldown_seconds__gte', models.F('cooldown_seconds')), ('max_cooldown_seconds__lte', 604800), ('probe_edge_factor__gte', 1), ('probe_seconds__gte', 1)), name='breaker_settings_cooldown'), models.CheckConstraint(condition=models.Q(('share_of_equity__gte', 0), ('share_of_equity__lte', 1), ('share_of_profit__gte', 0), ('ceiling__gte', models.F('floor')), ('floor__gt', 0), ('share_of_profit__lte', 1)), name='breaker_settings_threshold'), models.CheckConstraint(condition=models.Q(models.Q(('error_rate__isnull', True), models.Q(('error_rate__gt', 0), ('error_rate__lte', 1)), _connector='OR'), models.Q(('window_loss__isnull', True), ('window_loss__gt', 0), _connector='OR'), ('error_sample__gte', 1), ('latency_sample__gte', 1)), name='breaker_settings_triggers')],
            },
        ),
        migrations.CreateModel(
            name='CircuitBreaker',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('scope', models.CharField(choices=[('global', 'Everything'), ('owner', 'Owner'), ('bot', 'Bot'), ('account', 'Account'), ('exchange', 'Exchange'), ('pair', 'Pair'), ('pair_on_exchange', 'Pair on exchange')], max_length=16)),
                ('key', models.CharField(blank=True, default='', max_length=128)),
                ('state', models.CharField(choices=[('closed', 'Closed'), ('open', 'Open'), ('half_open', 'Half-open'), ('probing', 'Probing'), ('ramping', 'Ramping')], default='closed', max_length=16)),
                ('step', models.PositiveSmallIntegerField(default=0)),
                ('until_ns', models.BigIntegerField(blank=True, null=True)),
                ('reason', models.CharField(blank=True, default='', max_length=200)),
                ('trigger', models.CharField(blank=True, default='', max_length=32)),
                ('trips', models.PositiveIntegerField(default=0)),
                ('clean_trades', models.PositiveIntegerField(default=0)),
                ('holder', models.CharField(blank=True, default='', max_length=64)),
                ('since_ns', models.BigIntegerField(default=0)),
                ('version', models.PositiveIntegerField(default=0)),
                ('owner', models.ForeignKey(blank=True, help_text='Whose it is, of an owner, a bot or an account.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ('scope', 'key'),
                'permissions': [('operate_circuitbreaker', 'Can trip, reset and extend circuit breakers')],
                'default_permissions': ('view',),
            },
        ),
        migrations.CreateModel(
            name='BreakerEvent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField()),
                ('event', models.CharField(choices=[('trip', 'Trip'), ('operator_trip', 'Operator trip'), ('cooled', 'Cooled'), ('probe_claimed', 'Probe claimed'), ('probe_lapsed', 'Probe lapsed'), ('clean', 'Clean'), ('loss', 'Loss'), ('reset', 'Reset'), ('extend', 'Extend')], max_length=16)),
                ('from_state', models.CharField(choices=[('closed', 'Closed'), ('open', 'Open'), ('half_open', 'Half-open'), ('probing', 'Probing'), ('ramping', 'Ramping')], max_length=16)),
                ('to_state', models.CharField(choices=[('closed', 'Closed'), ('open', 'Open'), ('half_open', 'Half-open'), ('probing', 'Probing'), ('ramping', 'Ramping')], max_length=16)),
                ('step', models.PositiveSmallIntegerField(default=0)),
                ('until_ns', models.BigIntegerField(null=True)),
                ('version', models.PositiveIntegerField(help_text="The breaker's version after it.")),
                ('reason', models.CharField(blank=True, default='', max_length=200)),
                ('trigger', models.CharField(blank=True, default='', max_length=32)),
                ('holder', models.CharField(blank=True, default='', max_length=64)),
                ('figures', models.JSONField(default=dict)),
                ('event_id', models.CharField(max_length=128, null=True)),
                ('actor', models.ForeignKey(help_text='The operator, or nobody for the platform itself.', null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('breaker', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='events', to='risk.circuitbreaker')),
            ],
            options={
                'verbose_name': 'circuit breaker event',
                'ordering': ('-id',),
                'default_permissions': ('view',),
            },
        ),
        migrations.AddIndex(
            model_name='circuitbreaker',
            index=models.Index(condition=models.Q(('state', 'closed'), _negated=True), fields=['scope', 'key'], name='breaker_tripped'),
        ),
        migrations.AddConstraint(
            model_name='circuitbreaker',
            constraint=models.UniqueConstraint(fields=('scope', 'key'), name='breaker_unique'),
        ),
        migrations.AddConstraint(
            model_name='circuitbreaker',
            constraint=models.CheckConstraint(condition=models.Q(('scope__in', ['global', 'owner', 'bot', 'account', 'exchange', 'pair', 'pair_on_exchange'])), name='breaker_scope'),
        ),
        migrations.AddConstraint(
            model_name='circuitbreaker',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['closed', 'open', 'half_open', 'probing', 'ramping'])), name='breaker_state'),
        ),
        migrations.AddConstraint(
            model_name='circuitbreaker',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('key', ''), ('scope', 'global')), models.Q(models.Q(('scope', 'global'), _negated=True), models.Q(('key', ''), _negated=True)), _connector='OR'), name='breaker_key'),
        ),
        migrations.AddConstraint(
            model_name='circuitbreaker',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('owner__isnull', False), ('scope__in', ['owner', 'bot', 'account'])), models.Q(models.Q(('scope__in', ['owner', 'bot', 'account']), _negated=True), ('owner__isnull', True)), _connector='OR'), name='breaker_owner'),
        ),
        migrations.AddConstraint(
            model_name='circuitbreaker',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state__in', ['open', 'probing']), ('until_ns__isnull', False)), models.Q(models.Q(('state__in', ['open', 'probing']), _negated=True), ('until_ns__isnull', True)), _connector='OR'), name='breaker_until'),
        ),
        migrations.AddConstraint(
            model_name='circuitbreaker',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'probing'), models.Q(('holder', ''), _negated=True)), models.Q(models.Q(('state', 'probing'), _negated=True), ('holder', '')), _connector='OR'), name='breaker_holder'),
        ),
        migrations.AddConstraint(
            model_name='circuitbreaker',
            constraint=models.CheckConstraint(condition=models.Q(('state', 'ramping'), models.Q(('clean_trades', 0), ('step', 0)), _connector='OR'), name='breaker_step'),
        ),
        migrations.AddIndex(
            model_name='breakerevent',
            index=models.Index(fields=['at'], name='breaker_event_at'),
        ),
        migrations.AddConstraint(
            model_name='breakerevent',
            constraint=models.UniqueConstraint(fields=('breaker', 'version'), name='breaker_event_version'),
        ),
        migrations.AddConstraint(
            model_name='breakerevent',
            constraint=models.UniqueConstraint(fields=('breaker', 'event_id'), name='breaker_event_once'),
        ),
    ]
