"""The schedule: which job runs when, and only in the worker that holds the lease.

No logic of any feature.

Jobs are safe to run twice: expiry resolves a hold once, delivery carries a stable id, a report is
written once a week.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import httpx
import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from tokenbudget.bootstrap import (
    Services,
    list_pulled_providers,
    make_ledger,
    make_provider_client,
    make_pull_order,
    make_statement_allocate,
)
from tokenbudget.domain.errors import Unavailable
from tokenbudget.services.bill_pulls import PullSchedule, pull_on_schedule
from tokenbudget.services.closing import close_due_drafts
from tokenbudget.services.commitments import list_days_due, share_days
from tokenbudget.services.decisions import forget_old_decisions
from tokenbudget.services.delivery import Webhook, deliver_due, http_sender
from tokenbudget.services.forecasts import refresh_forecasts
from tokenbudget.services.leadership import lead, step_down
from tokenbudget.services.outcomes import join_outcomes
from tokenbudget.services.output_bounds import count_outputs
from tokenbudget.services.partitions import prepare_days
from tokenbudget.services.raises import review_raises
from tokenbudget.services.rates import forget_rates
from tokenbudget.services.rerating import rate_unpriced
from tokenbudget.services.scheduled_reports import write_weekly_once
from tokenbudget.services.traces import forget_old_traces
from tokenbudget.settings import packaged_path

LEASE_NAME: Final = "jobs"
FORECAST_MINUTES: Final = 15
RAISE_MINUTES: Final = 1
SHARING_MINUTES: Final = 30
UNPRICED_MINUTES: Final = 5
PARTITIONING_HOURS: Final = 1
OUTCOME_MINUTES: Final = 1
TRACE_MINUTES: Final = 10
DECISION_HOURS: Final = 1
OUTPUT_HOURS: Final = 1
RATE_HOURS: Final = 1
STATEMENT_HOURS: Final = 1
PULL_MINUTES: Final = 15
"""How often is looked whether a pull is due; Anthropic asks not to be polled every minute."""
MISFIRE_GRACE_SECONDS: Final = 3600
DAYS_OF_WEEK: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

logger = structlog.get_logger(__name__)


class Jobs:
    """The scheduled jobs of one worker; they run only while it leads."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.holder = f"{socket.gethostname()}:{os.getpid()}"
        self.ledger = make_ledger(services)
        self.http = httpx.Client(timeout=services.settings.webhook_timeout_seconds)
        self.stopping = threading.Event()
        self.scheduler = BackgroundScheduler(
            timezone=services.settings.timezone,
            job_defaults={
                "coalesce": True,
                "max_instances": 1,
                "misfire_grace_time": MISFIRE_GRACE_SECONDS,
            },
        )

    def start(self) -> None:
        """Start the schedule in threads of its own."""
        settings = self.services.settings
        weekday = DAYS_OF_WEEK[settings.weekly_report_weekday - 1]
        weekly = CronTrigger(
            day_of_week=weekday, hour=settings.weekly_report_hour, timezone=settings.timezone
        )
        table = (
            (
                "hold_expiry",
                self.expire_holds,
                _every(seconds=settings.hold_sweep_interval_seconds),
            ),
            ("outbox", self.deliver, _every(seconds=settings.outbox_interval_seconds)),
            ("forecasts", self.forecast, _every(seconds=FORECAST_MINUTES * 60)),
            ("raises", self.review_raises, _every(seconds=RAISE_MINUTES * 60)),
            ("commitments", self.share_commitments, _every(seconds=SHARING_MINUTES * 60)),
            ("outcomes", self.join_outcomes, _every(seconds=OUTCOME_MINUTES * 60)),
            ("unpriced", self.rate_unpriced, _every(seconds=UNPRICED_MINUTES * 60)),
            ("traces", self.forget_traces, _every(seconds=TRACE_MINUTES * 60)),
            ("partitions", self.prepare_days, _every(seconds=PARTITIONING_HOURS * 3600)),
            ("output_bounds", self.count_outputs, _every(seconds=OUTPUT_HOURS * 3600)),
            ("rate_counters", self.forget_rates, _every(seconds=RATE_HOURS * 3600)),
            ("decisions", self.forget_decisions, _every(seconds=DECISION_HOURS * 3600)),
            ("bills_pull", self.pull_bills, _every(seconds=PULL_MINUTES * 60)),
            ("statements", self.close_statements, _every(seconds=STATEMENT_HOURS * 3600)),
            ("weekly_report", self.report_week, weekly),
        )
        for name, job, trigger in table:
            self.scheduler.add_job(self.run_if_leading, trigger, (name, job), id=name)
        # Prices may have come with this very start, so the first round does not wait; nor do days
        # that went by while no server ran.
        for name in ("unpriced", "partitions", "output_bounds", "bills_pull"):
            self.scheduler.modify_job(name, next_run_time=self.services.clock())
        self.scheduler.start()

    def stop(self) -> None:
        """Let running jobs finish and give up the lease."""
        self.stopping.set()
        self.scheduler.shutdown(wait=True)
        self.http.close()
        try:
            step_down(self.services.database, LEASE_NAME, self.holder)
        except Exception as error:
            logger.warning("lease_not_given_up", error=str(error))

    def expire_holds(self) -> None:
        """Give back holds that ran out while nobody touched their counters."""
        self.ledger.apply([])

    def deliver(self) -> None:
        """Deliver what the outbox holds."""
        settings = self.services.settings
        secret = settings.webhook_secret
        webhook = Webhook(
            url=settings.webhook_url,
            secret=secret.get_secret_value() if secret is not None else None,
            timeout_seconds=settings.webhook_timeout_seconds,
            give_up_after=timedelta(seconds=settings.outbox_dead_after_seconds),
            batch=settings.outbox_batch_items,
        )
        sender = http_sender(self.http)
        deliver_due(self.services.database, webhook, sender, now=self.services.clock())

    def forecast(self) -> None:
        """Work out where every budget's window will end."""
        services = self.services
        refresh_forecasts(
            services.database, now=services.clock(), currency=services.settings.currency
        )

    def review_raises(self) -> None:
        """Resolve and raise the alerts that begins and ends of raises bring."""
        services = self.services
        review_raises(services.database, now=services.clock(), currency=services.settings.currency)

    def share_commitments(self) -> None:
        """Share what commitments cost on the days that have finished."""
        services = self.services
        commitments = services.price_list.agreements.commitments
        days = list_days_due(services.database, commitments, now=services.clock())
        for sharing in share_days(days, self.ledger.apply):
            if sharing.fixed is None:
                logger.warning("commitment_not_shared", commitment=sharing.commitment_id)

    def join_outcomes(self) -> None:
        """Place outcomes whose operation has been told of meanwhile."""
        join_outcomes(self.ledger.apply)

    def rate_unpriced(self) -> None:
        """Charge what had no price when it was used and has one now."""
        services = self.services
        posted = rate_unpriced(services.database, services.price_list, now=services.clock())
        if posted.usages:
            logger.info("unpriced_usage_rated", usages=posted.usages)

    def forget_traces(self) -> None:
        """Forget spans whose traces nothing more is awaited of."""
        window = timedelta(seconds=self.services.settings.trace_window_seconds)
        forget_old_traces(self.services.database, now=self.services.clock(), window=window)

    def count_outputs(self) -> None:
        """Count the output of calls and work out what is assumed of those that name no maximum."""
        count_outputs(self.services.database, now=self.services.clock())

    def forget_rates(self) -> None:
        """Let go of the counters of minutes gone by."""
        forget_rates(self.services.database, now=self.services.clock())

    def forget_decisions(self) -> None:
        """Let go of logged decisions that were kept for long enough."""
        kept_for = timedelta(days=self.services.settings.decision_retention_days)
        now = self.services.clock()
        forgotten = forget_old_decisions(self.services.database, now=now, kept_for=kept_for)
        if forgotten:
            logger.info("decisions_forgotten", decisions=forgotten)

    def prepare_days(self) -> None:
        """Make the partitions of the coming days."""
        made = prepare_days(self.services.database)
        if made:
            logger.info("partitions_made", names=made)

    def pull_bills(self) -> None:
        """Pull bills from the providers that have an admin key, as far as that is due."""
        services, settings = self.services, self.services.settings
        for provider in list_pulled_providers(settings):
            schedule = PullSchedule(
                make_pull_order(settings, provider),
                interval=timedelta(hours=settings.bills_pull_interval_hours),
                stale_after=timedelta(hours=settings.bills_pull_stale_hours),
            )
            client = make_provider_client(services, provider, self.http, self.pause)
            pull_on_schedule(services.database, client, schedule, now=services.clock())

    def pause(self, seconds: float) -> None:
        """Wait so long, or end what the caller does when the server stops."""
        if self.stopping.wait(seconds):
            raise Unavailable("the server is stopping")

    def close_statements(self) -> None:
        """Close drafts of statements whose grace is over; what is refused stays a draft."""
        services = self.services
        allocate = make_statement_allocate(services)
        for closing in close_due_drafts(services.database, allocate, now=services.clock()):
            name, state = closing.statement.name, closing.statement.state.value
            if closing.refusals:
                details = [refusal.detail for refusal in closing.refusals]
                logger.warning("statement_not_closed", statement=name, refusals=details)
            else:
                logger.info("statement_closed", statement=name, state=state)

    def report_week(self) -> None:
        """Write the report of the last complete week, once."""
        settings = self.services.settings
        write_weekly_once(
            self.services.database,
            now=self.services.clock(),
            currency=settings.currency,
            timezone=settings.timezone,
            templates=packaged_path("reports"),
            directory=settings.report_dir,
        )

    def run_if_leading(self, name: str, job: Callable[[], None]) -> None:
        """Run a job if this worker leads.

        A job that fails is logged and tried again at its next time.
        """
        try:
            leads = lead(
                self.services.database,
                LEASE_NAME,
                self.holder,
                now=self.services.clock(),
                lease_seconds=self.services.settings.lease_seconds,
            )
            if leads:
                job()
        except Exception:
            logger.exception("job_failed", job=name)


def _every(*, seconds: int) -> IntervalTrigger:
    return IntervalTrigger(seconds=seconds)
