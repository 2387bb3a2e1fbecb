from __future__ import annotations

import unittest

import examples
import table


class Figure(unittest.TestCase):
    def test_three_digits_and_all_of_a_large_number(self) -> None:
        values = [0, 0.00712, 0.5, 3.5, 17.05, 99.96, 250.0, 1234567.8]
        texts = ["0", "0.00712", "0.5", "3.5", "17.1", "100", "250", "1,234,568"]
        self.assertEqual([table.figure(value) for value in values], texts)


class Capacity(unittest.TestCase):
    def test_what_an_event_costs_stands_in_a_table_of_its_own(self) -> None:
        side = examples.side("runledger", "ours", 5, cpu_us_per_event={"client": 9, "kafka": 3.75, "ingest": 6, "api": 0.25})
        told = table.markdown([examples.row(), examples.row("capacity_a", what="a role", sides=[side], goals=[])])
        self.assertIn("| a role | ingest 6, kafka 3.75 | 10 | 100,000 |", told)
        self.assertNotIn("| a role | **Runledger**", told)


class Markdown(unittest.TestCase):
    def test_a_side_a_line_with_the_goals_beside_them_and_callers_not_under_test(self) -> None:
        lines = table.markdown([examples.row()]).splitlines()
        self.assertEqual(
            lines[2:4],
            [
                "| appends | **Runledger** | 1,000 events/s |  | 20 / 300 | 9.5 | rate, of a loop: 0.5 (≥ 0.45), reached |",
                "|  | a `loop` (limit) | 2,000 events/s | 0.5 |  |  | p99 in ms: 300 (≤ 250), **missed** |",
            ],
        )

    def test_goals_beyond_the_last_side_have_lines_of_their_own(self) -> None:
        alone = examples.row(sides=[examples.side("runledger", "ours", 5)])
        self.assertEqual(list(table.cells(alone))[1], [""] * 6 + ["p99 in ms: 300 (≤ 250), **missed**"])

    def test_a_row_that_does_not_count_says_why_and_reaches_nothing(self) -> None:
        text = table.markdown([examples.row(void="one is missing")])
        self.assertIn("| **does not count**: one is missing |", text)
        self.assertNotIn("reached", text)

    def test_ratios_are_taken_round_by_round(self) -> None:
        # the machine was ten times as fast in the last round, for both
        ours = examples.side("runledger", "ours", 44.0, rates=[40.0, 44.0, 600.0])
        limit = examples.side("a loop", "limit", 100.0, rates=[80.0, 100.0, 1_000.0])
        (_, told) = table.cells(examples.row(sides=[ours, limit]))
        self.assertEqual(told[3], "0.5")

    def test_what_a_peer_lost_is_told(self) -> None:
        text = table.markdown(
            [examples.row(goals=[], sides=[examples.side("a peer", "peer", 5, lost_after_kill=1234)])]
        )
        self.assertIn("| a peer: 1,234 acknowledged and lost at kill -9 |", text)

    def test_names_cannot_break_the_table(self) -> None:
        lines = table.markdown([examples.row(what="a|b\nc", goals=[])]).splitlines()
        self.assertTrue(lines[2].startswith(r"| a\|b c | **Runledger** |"), lines[2])

    def test_padded_lines_are_as_long_as_each_other(self) -> None:
        lines = [line for line in table.markdown([examples.row()], is_padded=True).splitlines() if line.startswith("|")]
        self.assertEqual({len(line) for line in lines}, {len(lines[0])})


class Notes(unittest.TestCase):
    def test_one_machine_is_told_once(self) -> None:
        slower = examples.MACHINE | {"fsync_us": 250.0}
        rows = [examples.row(), examples.row("b", "2026-01-03T00:00:00Z", machine=slower, rounds=1)]
        (note,) = table.notes(rows)
        told = note.replace("\n", " ")
        self.assertTrue(
            told.startswith("Medians of rounds that take turns (1 to 3 a figure), 2026-01-01 to 2026-01-03: 2 cores")
        )
        self.assertIn("synced in 180 to 250 µs", told)
        self.assertIn("Linux 6.18.44, release build, librdkafka 2.12.1, runledger 0.1.0;", told)

    def test_of_several_machines_each_says_what_it_measured(self) -> None:
        rows = [examples.row(), examples.row("b", what="reads", machine=examples.MACHINE | {"cores": 8})]
        self.assertEqual([note.partition(":")[0] for note in table.notes(rows)], ["Appends", "Reads"])


if __name__ == "__main__":
    unittest.main()
