"""Who leads in a role."""

from tests.contract.threads import aside, at_once

ROLE = "scheduler"
A_TERM = 60.0


class Leading:
    async def test_the_first_who_asks_leads_and_goes_on_leading(self, broker):
        first = await aside(broker.lead, ROLE, "north", A_TERM)

        assert first is not None
        assert await aside(broker.lead, ROLE, "north", A_TERM) == first
        assert await aside(broker.leader, ROLE) == "north"

    async def test_while_one_leads_nobody_else_does(self, broker, second_broker):
        await aside(broker.lead, ROLE, "north", A_TERM)

        assert await aside(second_broker.lead, ROLE, "south", A_TERM) is None
        assert await aside(second_broker.leader, ROLE) == "north"

    async def test_before_anybody_asks_nobody_leads(self, broker):
        assert await aside(broker.leader, ROLE) is None

    async def test_a_leader_whose_term_is_over_is_followed_by_one_with_a_higher_number(self, broker, backdoor):
        first = await aside(broker.lead, ROLE, "north", A_TERM)
        await aside(backdoor.end_term, ROLE)

        assert await aside(broker.leader, ROLE) is None
        second = await aside(broker.lead, ROLE, "south", A_TERM)

        assert second > first
        assert await aside(broker.lead, ROLE, "north", A_TERM) is None

    async def test_a_leader_that_comes_late_goes_on_when_nobody_has_followed(self, broker, backdoor):
        first = await aside(broker.lead, ROLE, "north", A_TERM)
        await aside(backdoor.end_term, ROLE)

        assert await aside(broker.lead, ROLE, "north", A_TERM) == first
        assert await aside(broker.lead, ROLE, "south", A_TERM) is None

    async def test_a_leader_that_resigns_is_followed_at_once(self, broker):
        first = await aside(broker.lead, ROLE, "north", A_TERM)
        await aside(broker.resign, ROLE, "north")

        assert await aside(broker.leader, ROLE) is None
        assert await aside(broker.lead, ROLE, "south", A_TERM) > first

    async def test_a_leader_that_resigned_leads_again_with_a_higher_number(self, broker):
        first = await aside(broker.lead, ROLE, "north", A_TERM)
        await aside(broker.resign, ROLE, "north")

        assert await aside(broker.lead, ROLE, "north", A_TERM) > first

    async def test_who_does_not_lead_resigns_without_effect(self, broker):
        await aside(broker.resign, ROLE, "south")
        await aside(broker.lead, ROLE, "north", A_TERM)

        await aside(broker.resign, ROLE, "south")

        assert await aside(broker.leader, ROLE) == "north"

    async def test_each_role_has_a_leader_of_its_own(self, broker):
        await aside(broker.lead, ROLE, "north", A_TERM)

        assert await aside(broker.lead, "reporter", "south", A_TERM) is not None

    def test_of_many_who_ask_at_once_one_leads(self, broker, backdoor):
        numbers = at_once(lambda number: backdoor.open().lead(ROLE, f"node-{number}", A_TERM), 4)

        assert len([number for number in numbers if number is not None]) == 1
