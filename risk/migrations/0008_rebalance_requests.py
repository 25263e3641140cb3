
import django.db.models.deletion
import risk.models.exact
from decimal import Decimal
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('bots', '0016_basis'),
        ('risk', '0007_slippage_stat'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='RebalanceRequest',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('move', 'Move'), ('convert', 'Convert')], max_length=8)),
                ('asset', models.CharField(max_length=32)),
                ('side', models.CharField(blank=True, choices=[('', '–'), ('buy', 'Buy'), ('sell', 'Sell')], default='', max_length=4)),
                ('amount', risk.models.exact.ExactField(help_text='Of the asset.', max_length=40)),
                ('value', risk.models.exact.ExactField(blank=True, help_text='About what it is worth, in the quote asset.', max_length=40, null=True)),
                ('quote', models.CharField(max_length=32, verbose_name='quote asset')),
                ('price', risk.models.exact.ExactField(blank=True, help_text='What the figures were made with.', max_length=40, null=True)),
                ('half_spread_bps', risk.models.exact.ExactField(blank=True, help_text='Basis points; empty: not known.', max_length=40, null=True, verbose_name='half the spread')),
                ('cost_bps', risk.models.exact.ExactField(blank=True, help_text='Basis points: half the spread and the fee.', max_length=40, null=True, verbose_name='estimated cost')),
                ('effects', models.JSONField(blank=True, default=list, help_text='Share of base by account, before and after.')),
                ('reason', models.CharField(help_text='Why it is proposed.', max_length=500)),
                ('state', models.CharField(choices=[('PROPOSED', 'Proposed'), ('APPROVED', 'Approved'), ('RUNNING', 'Running'), ('DONE', 'Done'), ('FAILED', 'Failed'), ('REJECTED', 'Rejected'), ('EXPIRED', 'Expired'), ('CANCELLED', 'Cancelled')], default='PROPOSED', max_length=12)),
                ('subject', models.CharField(editable=False, help_text='What two of may not be open at once.', max_length=120)),
                ('expires_at', models.DateTimeField(help_text='Until when it may be approved.', verbose_name='expires')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='proposed')),
                ('approved_at', models.DateTimeField(blank=True, null=True, verbose_name='approved')),
                ('ended_at', models.DateTimeField(blank=True, null=True, verbose_name='ended')),
                ('filled', risk.models.exact.ExactField(blank=True, help_text='What was converted of the amount, or has arrived of it.', max_length=40, null=True)),
                ('realised_price', risk.models.exact.ExactField(blank=True, help_text='What a conversion was filled at on average.', max_length=40, null=True)),
                ('improvement', risk.models.exact.ExactField(blank=True, help_text='Against taking the book at once, in the quote asset.', max_length=40, null=True, verbose_name='price improvement')),
                ('fees', models.JSONField(blank=True, default=dict, help_text='Amounts by asset.')),
                ('outcome', models.CharField(blank=True, default='', help_text='How it stands, or ended.', max_length=500)),
                ('account', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='bots.exchangeaccount')),
                ('arrived', models.OneToOneField(blank=True, help_text='Of a move: the deposit that was adopted.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='bots.difference')),
                ('command', models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='bots.command')),
                ('market', models.ForeignKey(blank=True, help_text='Of a conversion: where the order goes. Of a move: the pair it is for.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='bots.market')),
                ('owner', models.ForeignKey(help_text='The user it belongs to.', on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('proposed_by', models.ForeignKey(blank=True, help_text='Empty: the platform.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('sent', models.OneToOneField(blank=True, help_text='Of a move: the withdrawal that was adopted.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='bots.difference')),
                ('to_account', models.ForeignKey(blank=True, help_text='Of a move: where it goes.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='bots.exchangeaccount')),
                ('trade', models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='bots.trade')),
            ],
            options={
                'verbose_name': 'rebalancing request',
                'ordering': ('-id',),
                'permissions': [('decide_rebalancerequest', 'Can approve, reject and cancel rebalancing of what is theirs')],
                'default_permissions': ('view', 'add'),
            },
        ),
        migrations.CreateModel(
            name='RebalanceEvent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('from_state', models.CharField(blank=True, default='', max_length=12, verbose_name='from')),
                ('to_state', models.CharField(max_length=12, verbose_name='to')),
                ('text', models.CharField(blank=True, default='', max_length=500)),
                ('at', models.DateTimeField(auto_now_add=True)),
                ('by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('request', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='events', to='risk.rebalancerequest')),
            ],
            options={
                'verbose_name': 'step of a rebalancing request',
                'verbose_name_plural': 'steps',
                'ordering': ('id',),
                'default_permissions': ('view',),
            },
        ),
        migrations.CreateModel(
            name='Approval',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('decision', models.CharField(choices=[('approved', 'Approved'), ('rejected', 'Rejected')], max_length=8)),
                ('note', models.CharField(blank=True, default='', max_length=500)),
                ('at', models.DateTimeField(auto_now_add=True)),
                ('by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('request', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='approvals', to='risk.rebalancerequest')),
            ],
            options={
                'ordering': ('id',),
                'default_permissions': ('view',),
            },
        ),
        migrations.CreateModel(
            name='RebalanceSettings',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('scope', models.CharField(default='all', editable=False, max_length=8, unique=True)),
                ('version', models.PositiveIntegerField(default=1, editable=False)),
                ('changed_at', models.DateTimeField(auto_now=True)),
                ('enabled', models.BooleanField(default=True, help_text='Off: the platform proposes nothing; people may, and what is open goes on.')),
                ('target', models.DecimalField(decimal_places=6, default=Decimal('0.5'), help_text='Share of base, of what an account holds of a pair, that is to be restored.', max_digits=16)),
                ('band', models.DecimalField(decimal_places=6, default=Decimal('0.3'), help_text='How far a share may be from the target before anything is proposed.', max_digits=16)),
                ('least_value', models.DecimalField(decimal_places=6, default=Decimal('50'), help_text='Nothing worth less is proposed, in the quote asset.', max_digits=16)),
                ('most_value', models.DecimalField(decimal_places=6, default=Decimal('10000'), help_text='The most that one proposal is worth, in the quote asset.', max_digits=16)),
                ('lifetime_hours', models.DecimalField(decimal_places=6, default=Decimal('4'), help_text='Hours until a proposal that nobody has decided on expires, at most 168.', max_digits=16, verbose_name='lifetime')),
                ('pause_hours', models.DecimalField(decimal_places=6, default=Decimal('6'), help_text='Hours in which the same is not proposed again after it was rejected, cancelled or has failed.', max_digits=16, verbose_name='pause')),
            ],
            options={
                'verbose_name': 'rebalancing settings',
                'verbose_name_plural': 'rebalancing settings',
                'abstract': False,
                'default_permissions': ('view', 'change'),
                'constraints': [models.CheckConstraint(condition=models.Q(('scope', 'all')), name='rebalance_settings_one'), models.CheckConstraint(condition=models.Q(('target__gte', Decimal('0.01')), ('target__lte', Decimal('0.99')), ('band__gte', Decimal('0.01')), ('band__lte', Decimal('0.98')), ('least_value__gte', Decimal('0')), ('least_value__lte', Decimal('1000000000')), ('most_value__gte', Decimal('0.01')), ('most_value__lte', Decimal('1000000000')), ('lifetime_hours__gte', Decimal('0.01')), ('lifetime_hours__lte', Decimal('168')), ('pause_hours__gte', Decimal('0')), ('pause_hours__lte', Decimal('168'))), name='rebalance_settings_bounds'), models.CheckConstraint(condition=models.Q(('least_value__lte', models.F('most_value'))), name='rebalance_settings_values', violation_error_message='The least value must not be above the most.')],
            },
        ),
        migrations.AddIndex(
            model_name='rebalancerequest',
            index=models.Index(fields=['owner', '-id'], name='rebalance_owner'),
        ),
        migrations.AddIndex(
            model_name='rebalancerequest',
            index=models.Index(condition=models.Q(('state__in', ['APPROVED', 'PROPOSED', 'RUNNING'])), fields=['state'], name='rebalance_open'),
        ),
        migrations.AddConstraint(
            model_name='rebalancerequest',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['move', 'convert'])), name='rebalance_kind'),
        ),
        migrations.AddConstraint(
            model_name='rebalancerequest',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['PROPOSED', 'APPROVED', 'RUNNING', 'DONE', 'FAILED', 'REJECTED', 'EXPIRED', 'CANCELLED'])), name='rebalance_state'),
        ),
        migrations.AddConstraint(
            model_name='rebalancerequest',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('kind', 'convert'), ('market__isnull', False), ('side__in', ['buy', 'sell']), ('to_account', None)), models.Q(('command', None), ('kind', 'move'), ('side', ''), ('to_account__isnull', False), models.Q(('to_account', models.F('account')), _negated=True)), _connector='OR'), name='rebalance_kind_fields'),
        ),
        migrations.AddConstraint(
            model_name='rebalancerequest',
            constraint=models.UniqueConstraint(condition=models.Q(('state__in', ['APPROVED', 'PROPOSED', 'RUNNING'])), fields=('owner', 'subject'), name='rebalance_open_once', violation_error_message='The same is proposed already: decide on that one first.'),
        ),
        migrations.AddConstraint(
            model_name='approval',
            constraint=models.UniqueConstraint(fields=('request', 'by'), name='approval_once'),
        ),
        migrations.AddConstraint(
            model_name='approval',
            constraint=models.CheckConstraint(condition=models.Q(('decision__in', ['approved', 'rejected'])), name='approval_decision'),
        ),
    ]
