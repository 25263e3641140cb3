"""A number that grows with every change to limits, allowed pairs and switches: engines look whether they know it."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class RiskRevision(models.Model):
    """One row. Whoever changes the number holds the row until the commit, so that one change sees the one before."""

    number = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="risk_revision_one_row")]

    def __str__(self) -> str:
        return f"Revision {self.number}"
