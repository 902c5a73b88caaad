from tests.builders import *
from tokenbudget.bootstrap import Services
def test_x(ledger: Ledger, services: Services) -> None:
    print(record(ledger, *make_events(3)))
    set_budgets(services.database, make_budget(), now=services.clock())
    h = hold_cents(ledger, 5)
    print(standings(services.database, now=services.clock()), broken_rules(services.database))
    print(release(ledger,h)); contents(services.database)
