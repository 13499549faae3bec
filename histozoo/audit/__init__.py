"""The audit of prepared tasks: what a model could learn from them that is not the tissue, and what would make a result wrong.

Everything is measured on the tiles; nothing is known of any dataset beforehand. Needs no torch.
"""

from __future__ import annotations

from histozoo.audit.audit import audit, prepared
from histozoo.audit.findings import SEVERITIES, AuditReport, Finding, TaskAudit

__all__ = ["SEVERITIES", "AuditReport", "Finding", "TaskAudit", "audit", "prepared"]
