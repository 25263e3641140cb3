"""The faults an exchange, a network, a host or a person can bring about, by number, and the tests that go through them.

``python -m tests.faults.catalogue`` prints it as a table. Tests are listed as ``path::name`` without parameters. The
level says where a fault can be brought about: on the wire between us and an exchange (the simulated exchanges do it),
in the engine with simulated venues and a virtual clock, in the host's processes, in the database, or on a page. Most
are gone through by the simulation, too, under the same numbers: ``./arb simulate --fault 01_answer_lost``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import NamedTuple

LEVELS = ("wire", "engine", "host", "database", "page")
COUNT = 72

_LOST = "tests/faults/test_lost_orders.py"
_REFUSED = "tests/faults/test_refused_orders.py"
_EVENTS = "tests/faults/test_order_events.py"
_PAIRS = "tests/faults/test_protection.py"
_STREAMS = "tests/faults/test_private_streams.py"
_BOOKS = "tests/faults/test_books.py"
_ENGINE = "tests/faults/test_engine.py"
_RETRIES = "tests/exchanges/test_venue_retries.py"
_IDENTITY = "tests/faults/test_identity.py"
_STAGE = "tests/engine/test_engine_simulated.py"
_LIFE = "tests/engine/test_engine_life.py"
_PACE = "tests/engine/test_pace.py"
_STANDING = "tests/engine/test_standing_still.py"
_LAG = "tests/engine/test_loop_lag.py"
_BOOKKEEPING = "tests/engine/test_reconciler.py"
_COMPARED = "tests/execution/test_reconciliation.py"
_CRASH = "tests/crash/test_faults.py"
_KILLS = "tests/crash/test_crash_loop.py"
_TAKEOVER = "tests/crash/test_takeover.py"
_POINTS = "tests/crash_points/test_crash_points.py"
_SIMULATION = "tests/simulation/test_histories.py"


# Each test of these files that takes a venue goes through both ways orders leave.
BOTH_PATHS = (_LOST, _REFUSED, _EVENTS, _PAIRS, _STREAMS, _ENGINE)


class Row(NamedTuple):
    number: int
    fault: str
    expected: str
    level: str
    tests: tuple[str, ...] = ()

    @property
    def paths(self) -> str:
        """How orders leave in these tests; empty where no order's way is a part of it."""
        return "REST, WebSocket" if any(test.partition("::")[0] in BOTH_PATHS for test in self.tests) else ""


def _in(path: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{path}::{name}" for name in names)


ROWS: tuple[Row, ...] = (
    Row(
        1,
        "An order is taken, its answer is lost",
        "The outcome is unknown; asking finds the order; it is not sent again",
        "wire",
        _in(_LOST, "test_fault_01_an_answer_that_is_lost_leaves_an_order_to_adopt")
        + _in(_STAGE, "test_a_lost_answer_does_not_lose_the_trade")
        + _in(_PAIRS, "test_fault_01_a_pair_whose_answer_is_lost_is_adopted"),
    ),
    Row(
        2,
        "An order never reaches the exchange",
        "Unknown first; absent only once no request can arrive any more; then the leg is completed or undone",
        "wire",
        _in(_LOST, "test_fault_02_an_order_that_never_arrived_is_not_found")
        + _in(_ENGINE, "test_fault_02_a_leg_that_never_arrived_is_proven_absent_and_completed")
        + _in(_PAIRS, "test_fault_02_a_pair_that_never_arrived_is_not_found"),
    ),
    Row(
        3,
        "A request arrives late, inside its window",
        "The first 'not found' concludes nothing; the order is adopted when it appears",
        "wire",
        _in(_LOST, "test_fault_03_a_request_that_arrives_late_is_waited_for")
        + _in(_ENGINE, "test_fault_03_a_leg_that_arrives_late_is_adopted")
        + _in(_PAIRS, "test_fault_03_a_pair_that_arrives_late_is_waited_for"),
    ),
    Row(
        4,
        "A request arrives after its window",
        "The exchange refuses it; the order is absent",
        "wire",
        _in(_LOST, "test_fault_04_a_request_beyond_its_window_is_never_executed")
        + _in(_PAIRS, "test_fault_04_a_pair_beyond_its_window_is_never_placed"),
    ),
    Row(
        5,
        "The exchange gave up waiting for its engine; the order lives",
        "Unknown, then adopted",
        "wire",
        _in(_LOST, "test_fault_05_an_exchange_that_gave_up_waiting_has_the_order")
        + _in(_PAIRS, "test_fault_05_an_exchange_that_gave_up_waiting_has_the_pair"),
    ),
    Row(
        6,
        "The exchange gave up waiting for its engine; there is no order",
        "Unknown, then absent by proof",
        "wire",
        _in(_LOST, "test_fault_06_an_exchange_that_gave_up_waiting_has_no_order")
        + _in(_ENGINE, "test_fault_06_a_leg_the_exchange_dropped_is_proven_absent_and_completed")
        + _in(_PAIRS, "test_fault_06_an_exchange_that_gave_up_waiting_has_no_pair"),
    ),
    Row(
        7,
        "A gateway answers with a page: 502, 503, 504",
        "Unknown, whether the order lives or not",
        "wire",
        _in(_LOST, "test_fault_07_a_gateways_page_proves_nothing")
        + _in(_PAIRS, "test_fault_07_a_gateways_page_proves_nothing_of_a_pair"),
    ),
    Row(
        8,
        "A success is cut short",
        "Unknown, then adopted",
        "wire",
        _in(_LOST, "test_fault_08_an_answer_cut_short_proves_nothing")
        + _in(_PAIRS, "test_fault_08_a_pairs_answer_cut_short_proves_nothing"),
    ),
    Row(
        9,
        "A success is empty, or names no order",
        "Unknown; the order is looked up by our own id",
        "wire",
        _in(_LOST, "test_fault_09_an_answer_without_an_id_is_looked_up")
        + _in(_PAIRS, "test_fault_09_a_pairs_answer_that_is_empty_proves_nothing"),
    ),
    Row(
        10,
        "Too many requests (429, and how long to wait)",
        "The order was not placed; the account sends nothing until the time is over",
        "wire",
        _in(_REFUSED, "test_fault_10_a_rate_limit_pauses_the_account_and_places_nothing")
        + _in(_ENGINE, "test_fault_10_a_leg_refused_for_a_rate_limit_is_made_up_for")
        + _in(_PAIRS, "test_fault_10_a_rate_limit_places_no_pair_and_holds_the_next_one_back"),
    ),
    Row(
        11,
        "The address is banned for a time",
        "Nothing is sent to that exchange from here until it is over; other exchanges go on",
        "wire",
        _in(
            _REFUSED,
            "test_fault_11_a_ban_is_kept_to",
        )
        + _in(_RETRIES, "test_a_ban_pauses_every_account_on_the_exchange_and_no_other"),
    ),
    Row(
        12,
        "A firewall answers with a page (403)",
        "Unknown unless the exchange documents otherwise; twice in a row, the account sends nothing more",
        "wire",
        _in(
            _REFUSED,
            "test_fault_12_a_firewalls_page_proves_nothing",
            "test_fault_12_a_firewalls_page_twice_in_a_row_stops_the_account",
        )
        + _in(_PAIRS, "test_fault_12_a_firewalls_page_proves_nothing_of_a_pair"),
    ),
    Row(
        13,
        "Our clock is outside the exchange's window",
        "Not placed; the exchange's time is measured anew; what follows has a new id",
        "wire",
        _in(_REFUSED, "test_fault_13_an_order_outside_the_window_is_not_placed_and_the_clock_measured")
        + _in(_PAIRS, "test_fault_13_a_pair_outside_the_window_is_not_placed_and_the_clock_measured"),
    ),
    Row(
        14,
        "The money is gone when the order arrives",
        "Not placed; what was reserved is free again, balances are asked for, the other leg is made up for",
        "wire",
        _in(_REFUSED, "test_fault_14_money_that_is_gone_refuses_the_order_and_shows_in_the_balances")
        + _in(_ENGINE, "test_fault_14_a_leg_without_money_is_made_up_for")
        + _in(_PAIRS, "test_fault_14_coins_that_are_gone_refuse_the_pair"),
    ),
    Row(
        15,
        "The exchange says that the id is taken",
        "The earlier order lives and is adopted",
        "wire",
        _in(_LOST, "test_fault_15_a_doubled_request_names_an_order_that_lives")
        + _in(_PAIRS, "test_fault_15_a_pair_that_arrives_twice_is_there_once_and_adopted"),
    ),
    Row(
        16,
        "The exchange takes an id a second time",
        "Both executions are booked, more than was ordered is alarmed, the bot stops",
        "wire",
        _in(_LOST, "test_fault_16_an_id_accepted_twice_is_noticed_and_both_are_booked")
        + _in(_ENGINE, "test_fault_16_an_id_accepted_twice_is_booked_twice_and_stops_the_bot"),
    ),
    Row(
        17,
        "An order just acknowledged is not found",
        "Reads lag: it is asked for again, never concluded dead",
        "wire",
        _in(_EVENTS, "test_fault_17_an_acknowledged_order_that_reads_lag_behind_is_asked_for_again")
        + _in(_ENGINE, "test_fault_17_a_leg_that_is_acknowledged_and_then_not_found_is_waited_for"),
    ),
    Row(
        18,
        "A cancellation is told there is no such order: it had filled",
        "The order is asked about, its fill booked",
        "wire",
        _in(_EVENTS, "test_fault_18_a_cancellation_that_lost_the_race_is_asked_about")
        + _in(_PAIRS, "test_fault_18_a_pair_that_filled_is_not_concluded_from_its_cancellation"),
    ),
    Row(
        19,
        "A cancellation gets no answer",
        "The order stays open until asking says otherwise",
        "wire",
        _in(
            _EVENTS,
            "test_fault_19_a_cancellation_that_gets_no_answer_is_asked_for_again",
            "test_fault_19_a_cancellation_that_is_never_answered_is_asked_about",
        )
        + _in(_PAIRS, "test_fault_19_a_pairs_cancellation_without_an_answer_is_asked_for_again"),
    ),
    Row(
        20,
        "A fill is told, or made, after the cancellation",
        "It is booked, alarmed and hedged",
        "wire",
        _in(
            _EVENTS,
            "test_fault_20_a_fill_told_after_the_cancellation_is_booked",
            "test_fault_20_a_fill_made_after_the_cancellation_is_booked_with_an_alarm",
        )
        + _in(_ENGINE, "test_fault_20_a_fill_after_the_end_of_its_order_is_booked_and_hedged")
        + _in(_PAIRS, "test_fault_20_a_fill_of_a_pair_that_was_cancelled_is_booked_with_an_alarm"),
    ),
    Row(
        21,
        "A fill is told before the order's answer",
        "It is the order's by our own id, booked once",
        "wire",
        _in(_EVENTS, "test_fault_21_fills_that_come_before_the_answer_are_the_orders"),
    ),
    Row(
        22,
        "A fill is told twice",
        "It is booked once",
        "wire",
        _in(_EVENTS, "test_fault_22_a_fill_told_twice_is_booked_once")
        + _in(_PAIRS, "test_fault_22_what_is_told_twice_of_a_pair_is_booked_once"),
    ),
    Row(
        23,
        "A fill is told without an id",
        "It is not booked from the event but asked for, so that it is booked once",
        "wire",
        _in(
            _EVENTS,
            "test_fault_23_a_fill_without_an_id_is_asked_for",
            "test_fault_23_a_unified_fill_without_an_id_is_not_booked_under_a_word",
        ),
    ),
    Row(
        24,
        "An old status comes after a newer one",
        "The order does not go back",
        "wire",
        _in(_EVENTS, "test_fault_24_an_event_that_comes_too_late_changes_nothing"),
    ),
    Row(
        25,
        "A partial fill, then silence",
        "The order is asked about",
        "wire",
        _in(_EVENTS, "test_fault_25_a_partial_fill_that_is_not_told_is_found_by_asking")
        + _in(_PAIRS, "test_fault_25_a_part_of_a_take_profit_that_is_not_told_is_found_by_asking"),
    ),
    Row(
        26,
        "An IOC order finds less than it wanted",
        "What it filled is booked and hedged",
        "wire",
        _in(_EVENTS, "test_fault_26_an_order_that_found_less_ends_with_what_it_filled")
        + _in(_ENGINE, "test_fault_26_a_leg_that_found_less_is_completed_or_undone"),
    ),
    Row(
        27,
        "More is filled than was ordered",
        "All of it is booked; an alarm; nothing more is sent",
        "wire",
        _in(_EVENTS, "test_fault_27_an_overfill_is_booked_whole_with_an_alarm")
        + _in(_ENGINE, "test_fault_27_an_overfill_is_booked_and_stops_the_bot"),
    ),
    Row(
        28,
        "A fee is left out, or is in a third asset",
        "It stays open until told; it is booked in its own asset",
        "wire",
        _in(
            _EVENTS,
            "test_fault_28_a_fee_that_is_left_out_stays_open_until_it_is_told",
            "test_fault_28_a_fee_in_a_third_asset_is_that_assets",
        ),
    ),
    Row(
        29,
        "A fee is above the schedule",
        "It is booked as it is",
        "wire",
        _in(_EVENTS, "test_fault_29_a_fee_above_the_schedule_is_booked_as_it_is"),
    ),
    Row(
        30,
        "The exchange rounds the price or cuts the quantity",
        "What traded is booked and hedged, not what was asked for",
        "wire",
        _in(
            _EVENTS,
            "test_fault_30_a_price_the_exchange_rounded_is_booked_as_it_traded",
            "test_fault_30_a_quantity_the_exchange_cut_is_all_there_is",
        ),
    ),
    Row(
        31,
        "Tick, lot, smallest order or price band change",
        "Not placed, by the exchange's own code",
        "wire",
        _in(_REFUSED, "test_fault_31_a_filter_that_changed_refuses_the_order")
        + _in(_PAIRS, "test_fault_31_a_filter_that_changed_refuses_the_pair"),
    ),
    Row(
        32,
        "A market is halted",
        "Not placed; it works again when the market does",
        "wire",
        _in(_REFUSED, "test_fault_32_a_halted_market_refuses_orders")
        + _in(_ENGINE, "test_fault_32_a_leg_on_a_halted_market_is_made_up_for")
        + _in(_PAIRS, "test_fault_32_a_halted_market_refuses_the_pair"),
    ),
    Row(
        33,
        "Cancellations only, or maintenance",
        "No answer is taken for a proof; asking and cancelling go on",
        "wire",
        _in(
            _REFUSED,
            "test_fault_33_an_exchange_that_takes_cancellations_only_is_still_asked_and_told",
            "test_fault_33_maintenance_proves_nothing_about_any_order",
            "test_fault_33_a_cancellation_in_maintenance_proves_nothing",
        )
        + _in(_PAIRS, "test_fault_33_maintenance_proves_nothing_about_a_pair_that_stands_or_is_sent"),
    ),
    Row(
        34,
        "The account is restricted",
        "Not placed; twice in a row, the account is stopped with the exchange's reason, and can still be read",
        "wire",
        _in(_REFUSED, "test_fault_34_a_restricted_account_is_stopped_with_the_reason_and_can_be_asked")
        + _in(_ENGINE, "test_fault_34_a_leg_of_a_restricted_account_is_made_up_for")
        + _in(_PAIRS, "test_fault_34_a_restricted_account_places_no_pair"),
    ),
    Row(
        35,
        "The key is revoked, or our address not allowed",
        "Not placed; no refusal of a question is an answer about an order; the account trades no more",
        "wire",
        _in(
            _REFUSED,
            "test_fault_35_a_revoked_key_is_not_taken_for_an_answer_about_orders",
            "test_fault_35_an_address_that_is_not_allowed_places_nothing",
        )
        + _in(_ENGINE, "test_fault_35_an_account_whose_key_is_gone_trades_no_more")
        + _in(_PAIRS, "test_fault_35_a_revoked_key_is_no_answer_about_a_pair"),
    ),
    Row(
        36,
        "The key may only read",
        "Not placed; orders are still asked about",
        "wire",
        _in(_REFUSED, "test_fault_36_a_key_that_may_only_read_still_reads")
        + _in(_PAIRS, "test_fault_36_a_key_that_may_only_read_still_tells_of_the_pair"),
    ),
    Row(
        37,
        "The owner trades or transfers by hand",
        "Foreign orders are shown, counted and left alone; balances follow",
        "wire",
        _in(_REFUSED, "test_fault_37_what_the_owner_does_by_hand_is_told_and_left_alone")
        + _in(_ENGINE, "test_fault_37_an_order_placed_by_hand_is_counted_and_left_alone"),
    ),
    Row(
        38,
        "The exchange comes back with an older state",
        "An order it had acknowledged is disputed, not dead; balances decide",
        "wire",
        _in(_EVENTS, "test_fault_38_an_order_the_exchange_lost_is_not_taken_for_dead")
        + _in(_ENGINE, "test_fault_38_an_acknowledged_leg_the_exchange_lost_is_disputed"),
    ),
    Row(
        39,
        "A trade is taken back or corrected",
        "A difference of its own kind, until a person has looked; adopting the balances makes up for it",
        "wire",
        _in(_EVENTS, "test_fault_39_a_trade_that_is_taken_back_is_noticed")
        + _in(
            _COMPARED,
            "test_fault_39_an_execution_the_exchange_no_longer_lists_was_taken_back",
            "test_fault_39_a_list_that_lags_or_was_not_asked_for_takes_nothing_back",
        )
        + _in(_BOOKKEEPING, "test_fault_39_what_was_taken_back_before_the_books_were_opened_is_shown_and_stays"),
    ),
    Row(
        40,
        "Balances lag behind fills",
        "Tolerated for a time, then an alarm",
        "engine",
        _in(
            _BOOKKEEPING,
            "test_fault_40_what_still_differs_once_lagging_balances_have_come_is_a_difference",
            "test_balances_that_lag_behind_executions_are_no_difference",
        ),
    ),
    Row(
        41,
        "A connection ends after its day, or is cut",
        "Another one, live only after a sweep; what happened between is told",
        "wire",
        _in(
            _STREAMS,
            "test_fault_41_a_connection_at_its_end_is_replaced",
            "test_fault_41_a_connection_that_is_cut_is_replaced",
        ),
    ),
    Row(
        42,
        "The exchange announces that it will close the connection",
        "Another one at once, and a sweep; books come back whole",
        "wire",
        _in(_STREAMS, "test_fault_42_a_notice_of_the_end_is_acted_on")
        + _in(_BOOKS, "test_fault_42_market_data_outlives_the_end_of_its_connection"),
    ),
    Row(
        43,
        "The private stream is mute though its socket lives",
        "Orders under way are asked about",
        "wire",
        _in(_STREAMS, "test_fault_43_what_a_mute_stream_keeps_back_is_found_by_asking")
        + _in(_ENGINE, "test_fault_17_a_leg_that_is_acknowledged_and_then_not_found_is_waited_for"),
    ),
    Row(
        44,
        "A login or subscription expires",
        "It is renewed, with a sweep",
        "wire",
        _in(_STREAMS, "test_fault_44_a_login_that_expires_is_renewed"),
    ),
    Row(
        45,
        "The private stream leaves a fill out",
        "Asking, or the next sweep, finds it",
        "wire",
        _in(_EVENTS, "test_fault_45_a_fill_that_was_left_out_is_found_by_asking")
        + _in(_STREAMS, "test_fault_45_a_fill_lost_before_a_cut_is_told_by_the_sweep")
        + _in(_PAIRS, "test_fault_45_a_fill_that_the_stream_leaves_out_is_found_by_the_sweep"),
    ),
    Row(
        46,
        "The book's stream has a gap",
        "Nothing is traded on it until it is whole again",
        "wire",
        _in(_BOOKS, "test_fault_46_a_gap_takes_the_book_down_until_it_is_whole"),
    ),
    Row(
        47,
        "A snapshot, or a message, is older than what we have",
        "It is fetched again, or passed over",
        "wire",
        _in(
            _BOOKS,
            "test_fault_47_a_snapshot_older_than_the_stream_is_fetched_again",
            "test_fault_47_an_old_message_told_again_does_not_spoil_the_book",
        ),
    ),
    Row(
        48,
        "A book is crossed, or has an empty side",
        "Nothing is traded on it; it is counted",
        "wire",
        _in(
            _BOOKS,
            "test_fault_48_a_crossed_book_is_not_reported",
            "test_fault_48_a_book_with_an_empty_side_is_not_traded_on",
        ),
    ),
    Row(
        49,
        "A book stands still while its socket lives",
        "It is too old to be traded on",
        "wire",
        _in(_BOOKS, "test_fault_49_a_book_that_stands_still_is_too_old_though_its_socket_lives"),
    ),
    Row(
        50,
        "A book's checksum is wrong",
        "The book is taken down and had anew",
        "wire",
        _in(_BOOKS, "test_fault_50_a_book_guarded_by_a_checksum_only_is_not_believed_when_it_is_wrong"),
    ),
    Row(
        51,
        "A price is absurd: zero, not a number, far too small",
        "The message is refused and the book had anew",
        "wire",
        _in(_BOOKS, "test_fault_51_an_absurd_price_is_refused"),
    ),
    Row(
        52,
        "Two coins of one name, or a hidden multiplier",
        "No ticker is taken for an identity: other contracts, or none that agree and real money, trade nothing",
        "engine",
        _in(
            _IDENTITY,
            "test_fault_52_a_route_between_other_coins_is_refused_at_any_price",
            "test_fault_52_the_way_back_is_a_route_of_its_own",
            "test_fault_52_coins_not_known_to_be_one_are_not_traded_with_real_money",
            "test_fault_52_another_coin_of_the_name_is_not_traded_for_its_price",
            "test_fault_52_a_market_far_from_the_pairs_others_is_not_traded",
            "test_fault_52_a_difference_between_those_limits_is_traded",
            "test_fault_52_a_multiplier_in_the_name_is_another_asset",
            "test_fault_52_a_contracts_multiplier_counts_in_its_size",
        ),
    ),
    Row(
        53,
        "No connection: refused, reset, no name, no certificate",
        "Not placed if provably nothing was sent, else unknown",
        "wire",
        _in(
            _LOST,
            "test_fault_53_a_connection_that_is_refused_proves_that_nothing_was_sent",
            "test_fault_53_a_connection_that_is_reset_proves_nothing",
        ),
    ),
    Row(
        54,
        "The connection is reset in the middle of an answer",
        "Unknown, then adopted",
        "wire",
        _in(_LOST, "test_fault_54_a_connection_reset_in_the_middle_of_the_answer_proves_nothing")
        + _in(_PAIRS, "test_fault_54_a_connection_reset_in_the_middle_of_a_pairs_answer_proves_nothing"),
    ),
    Row(
        55,
        "One exchange is cut off",
        "No trade with it is started, on neither side",
        "wire",
        _in(_ENGINE, "test_fault_55_one_exchange_that_is_cut_off_starts_no_trade"),
    ),
    Row(
        56,
        "A slow line that loses answers",
        "Each order is executed once and booked once; an account that answers slowly begins no trade",
        "wire",
        _in(_LOST, "test_fault_56_on_a_slow_and_lossy_line_each_order_is_executed_once")
        + _in(
            _PACE,
            "test_fault_56_an_account_that_answers_slowly_takes_no_new_trades",
            "test_fault_56_it_trades_again_once_a_question_is_answered_quickly",
        ),
    ),
    Row(
        57,
        "The engine is killed at any point",
        "It takes up what its store says",
        "host",
        _in(_KILLS, "test_fault_57_and_58_kills_at_any_moment_lose_nothing_and_send_nothing_twice")
        + _in(_SIMULATION, "test_a_process_dies_at_every_point")
        + _in(_POINTS, "test_an_engine_killed_on_a_trades_path_is_recovered_from")
        + _in(_TAKEOVER, "test_a_killed_hosts_owner_is_taken_over_once_its_lease_has_run_out")
        + _in(_KILLS, "test_fault_57_kills_leave_trades_by_hand_entered_once_protected_and_closed_as_asked"),
    ),
    Row(
        58,
        "The engine is killed while it cancels or repairs",
        "It goes on with the repair",
        "host",
        _in(_KILLS, "test_fault_57_and_58_kills_at_any_moment_lose_nothing_and_send_nothing_twice")
        + _in(_POINTS, "test_an_engine_killed_on_a_trades_path_is_recovered_from"),
    ),
    Row(
        59,
        "Two engines for one owner",
        "The older one's token sends nothing",
        "host",
        _in(_TAKEOVER, "test_fault_59_of_hosts_started_together_one_trades"),
    ),
    Row(
        60,
        "A paused engine wakes after its lease",
        "It looks at its lease before it sends",
        "host",
        _in(_TAKEOVER, "test_fault_60_a_host_that_stood_still_sends_nothing_when_it_wakes"),
    ),
    Row(
        61,
        "The event loop stands still, or memory runs out",
        "Old decisions are not sent, and no new trade is begun until it keeps time again",
        "host",
        _in(_STANDING, "test_a_process_that_stands_still_between_two_orders_does_not_send_the_second")
        + _in(
            _LAG,
            "test_fault_61_a_loop_that_stood_still_begins_no_trade_until_it_keeps_time",
            "test_a_loop_that_is_really_blocked_is_noticed_at_once_and_recovers",
        ),
    ),
    Row(
        62,
        "One bot's own code raises",
        "That bot stops, no other",
        "engine",
        _in(_LIFE, "test_a_bot_that_raises_stops_alone"),
    ),
    Row(
        63,
        "The database is down before an intent is durable",
        "Nothing is sent",
        "database",
        _in(
            _CRASH,
            "test_fault_63_the_network_to_the_database_is_down_before_the_intent",
            "test_fault_63_the_database_is_locked_before_the_intent",
        )
        + _in(_LIFE, "test_no_durable_intent_no_order"),
    ),
    Row(
        64,
        "The database is down after an order was sent",
        "What happened is kept and written later",
        "database",
        _in(_CRASH, "test_fault_64_what_exchanges_say_while_the_database_is_away_is_kept_and_booked_once"),
    ),
    Row(
        65,
        "A commit's outcome is not known",
        "Its rows are void and its ids used up",
        "database",
        _in(_CRASH, "test_fault_65_a_commit_whose_answer_is_lost_is_not_sent_and_not_left"),
    ),
    Row(
        66,
        "A deadlock, or a transaction that must be repeated",
        "It is repeated; nothing is sent inside it",
        "database",
        _in(
            _CRASH,
            "test_fault_66_a_deadlock_is_tried_again_and_booked_once",
            "test_fault_66_a_repair_in_a_deadlock_is_made_durable_once",
            "test_fault_66_an_intent_in_a_deadlock_is_unfolded_once",
            "test_fault_66_an_intent_that_the_database_undid_is_tried_a_few_times",
            "test_fault_66_another_refusal_of_the_database_is_not_tried_again",
        ),
    ),
    Row(
        67,
        "The disk is full or read-only",
        "No new trades; an alarm",
        "database",
        _in(_CRASH, "test_fault_67_a_full_or_read_only_database_takes_no_trade"),
    ),
    Row(
        68,
        "An old backup is restored",
        "Orders the exchange knows and we do not are disputed",
        "database",
        _in(_TAKEOVER, "test_fault_68_after_a_restored_backup_no_id_is_used_twice_and_nothing_is_booked_wrongly"),
    ),
    Row(
        69,
        "Redis is empty or gone",
        "Trading goes on, pages poll",
        "host",
        _in(
            "tests/host/test_publisher.py",
            "test_what_the_layer_did_not_take_is_sent_when_it_is_back_unless_newer_came",
            "test_an_outage_is_logged_once",
        )
        + _in(_TAKEOVER, "test_fault_69_with_redis_away_trading_goes_on")
        + _in("tests/host/test_shared_counter.py", "test_a_redis_that_is_away_is_said_to_be_so_without_its_address")
        + _in("tests/browser/test_connection.py", "test_without_a_socket_the_page_polls_and_says_so_until_it_is_back"),
    ),
    Row(
        70,
        "A task is delivered twice, or two schedulers run",
        "The second changes nothing",
        "host",
        _in(_CRASH, "test_fault_70_messages_delivered_again_and_a_second_beat_change_nothing")
        + _in("tests/host/test_tasks.py", "test_the_same_message_ten_times_makes_one_host"),
    ),
    Row(
        71,
        "A clock steps by minutes",
        "Timeouts do not notice; signing follows the exchange's time",
        "wire",
        _in(_REFUSED, "test_fault_71_a_clock_that_steps_is_followed")
        + _in(_CRASH, "test_fault_71_a_wall_clock_that_jumps_costs_no_lease_and_no_order")
        + _in(_STANDING, "test_a_step_of_the_wall_clock_neither_hastens_nor_delays_the_proof_of_absence"),
    ),
    Row(
        72,
        "A deployment in the middle of trades",
        "Drain, sweep, go on",
        "host",
        _in(_CRASH, "test_fault_72_code_and_schema_of_different_versions_start_no_engine")
        + _in(_LIFE, "test_stop_drains_open_trades"),
    ),
)


def lines() -> Iterator[str]:
    """Yield the catalogue as a Markdown table."""
    yield "| # | fault | what must happen | level | orders by | tests |"
    yield "|---|---|---|---|---|---|"
    for row in ROWS:
        tests = "<br>".join(f"`{test}`" for test in row.tests)
        yield f"| {row.number} | {row.fault} | {row.expected} | {row.level} | {row.paths} | {tests} |"


if __name__ == "__main__":
    sys.stdout.write("\n".join(lines()) + "\n")
