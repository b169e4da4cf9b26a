"""Which tasks run stands where it can be read after a SIGKILL."""

from django_vtasks.worker.flight import ID_WIDTH, FlightRecord, running_ids
from tests.unit.worker.doubles import a_claim
from vtasks_supervisor.recorder import Recorder


class Pages:
    """A recorder in a list."""

    def __init__(self, entries):
        self.entries = entries
        self.notes = [b""] * entries
        self.written = 0

    def note(self, entry, text):
        assert self.notes[entry] == b"", "written over what still stands"
        self.written += 1
        self.notes[entry] = text

    def wipe(self, entry):
        self.notes[entry] = b""

    @property
    def ids(self):
        return {note.rstrip(b"\0").decode() for note in self.notes if note}


def test_what_runs_is_noted_and_what_has_ended_is_not():
    pages = Pages(3)
    record = FlightRecord(pages)
    one, two = a_claim(), a_claim()
    record.begin(one)
    record.begin(two)
    assert pages.ids == {one.envelope.id, two.envelope.id}
    record.end(one)

    assert pages.ids == {two.envelope.id}


def test_entries_are_used_again():
    pages = Pages(2)
    record = FlightRecord(pages)
    for _ in range(10):
        claim = a_claim()
        record.begin(claim)
        assert pages.ids == {claim.envelope.id}
        record.end(claim)

    assert pages.written == 10
    assert pages.ids == set()


def test_of_more_tasks_than_entries_the_first_are_noted_and_the_others_do_no_harm():
    pages = Pages(2)
    record = FlightRecord(pages)
    claims = [a_claim() for _ in range(4)]
    for claim in claims:
        record.begin(claim)
    assert pages.ids == {claim.envelope.id for claim in claims[:2]}
    for claim in claims:
        record.end(claim)

    assert pages.ids == set()
    late = a_claim()
    record.begin(late)
    assert pages.ids == {late.envelope.id}


def test_the_end_of_what_never_began_changes_nothing():
    pages = Pages(1)
    record = FlightRecord(pages)
    claim = a_claim()
    record.begin(claim)
    record.end(a_claim())
    record.end(claim)
    record.end(claim)
    record.begin(a_claim())

    assert len(pages.ids) == 1


def test_the_notes_of_a_real_recorder_are_the_ids_again():
    recorder = Recorder(3, ID_WIDTH)
    record = FlightRecord(recorder)
    claims = [a_claim() for _ in range(3)]
    for claim in claims:
        record.begin(claim)
    record.end(claims[1])

    assert running_ids(recorder.notes()) == {claims[0].envelope.id, claims[2].envelope.id}
    recorder.close()


def test_a_note_that_was_half_written_when_the_process_died_is_no_error():
    assert running_ids([b"abc", b"\xff\x00"]) == {"abc", "�\x00"}
