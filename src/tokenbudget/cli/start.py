"""What every command begins with.

Settings, logging, services and, where it needs one, a current database.
"""

from __future__ import annotations

from tokenbudget.bootstrap import Services, open_services, prepare_database
from tokenbudget.logs import configure_logging
from tokenbudget.settings import Settings, load_settings


def opened(settings: Settings | None = None) -> Services:
    """Give the services for the settings of the environment; the database is not touched yet."""
    settings = settings or load_settings()
    configure_logging(settings.log_level, settings.log_format)
    return open_services(settings)


def started(settings: Settings | None = None) -> Services:
    """Give the services with a database that is current."""
    services = opened(settings)
    prepare_database(services)
    return services
