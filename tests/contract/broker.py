"""What every store of tasks promises; each store inherits BrokerContract and supplies its backdoor."""

import pytest

from tests.contract.behaviours.aging import Aging
from tests.contract.behaviours.blame import Blame
from tests.contract.behaviours.claiming import Claiming
from tests.contract.behaviours.corruption import Corruption
from tests.contract.behaviours.crashing import Crashing
from tests.contract.behaviours.failing import Failing
from tests.contract.behaviours.leading import Leading
from tests.contract.behaviours.leases import Leases
from tests.contract.behaviours.lost_answers import LostAnswers
from tests.contract.behaviours.operating import Operating
from tests.contract.behaviours.pausing import Pausing
from tests.contract.behaviours.pushing import Pushing
from tests.contract.behaviours.registering import Registering
from tests.contract.behaviours.reporting import Reporting
from tests.contract.behaviours.retrying import Retrying
from tests.contract.behaviours.settling import Settling
from tests.contract.behaviours.suspects import Suspects
from tests.contract.behaviours.ticking import Ticking
from tests.contract.behaviours.uniqueness import Uniqueness
from tests.contract.behaviours.waiting import Waiting
from tests.contract.given import A_LEASE, ALICE, BOB
from tests.contract.threads import aside


class BrokerContract(
    Pushing,
    Claiming,
    Waiting,
    Uniqueness,
    Settling,
    Corruption,
    Failing,
    Crashing,
    Blame,
    Suspects,
    Leases,
    Leading,
    Registering,
    Ticking,
    LostAnswers,
    Operating,
    Aging,
    Pausing,
    Reporting,
    Retrying,
):
    """The behaviours of one store; ALICE's and BOB's nodes have a lease when a test begins."""

    @pytest.fixture
    def failed_cap(self):
        return 1000

    @pytest.fixture
    def backdoor(self, failed_cap):
        raise NotImplementedError

    @pytest.fixture
    async def broker(self, backdoor):
        broker = backdoor.open()
        for owner in (ALICE, BOB):
            await aside(broker.renew, owner.node, A_LEASE)
        yield broker
        await broker.aclose()

    @pytest.fixture
    async def second_broker(self, backdoor):
        broker = backdoor.open()
        yield broker
        await broker.aclose()
