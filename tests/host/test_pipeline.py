"""Statements sent over a PostgreSQL connection within the call: their order, their refusals, their end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio

from bots.engine_host.database import DatabaseThreads
from bots.engine_host.pipeline import Failed, Pipeline
from tests.crash.stage import database_url

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services]

ONE = ("SELECT 1", ())


@pytest_asyncio.fixture
async def pipeline(threads: DatabaseThreads) -> AsyncIterator[Pipeline]:
    connection = await psycopg.AsyncConnection.connect(await threads.run(database_url), autocommit=True)
    made = Pipeline(connection)
    yield made
    made.give_up("the test is over")
    await connection.close()


async def test_batches_are_answered_in_their_order_with_the_rows_of_each_statement(pipeline: Pipeline) -> None:
    series = "SELECT generate_series(1, $1::int)"
    answers = [pipeline.send((series, (rows,)), ("SELECT 1 WHERE $1::text = $2::text", ("a", "b"))) for rows in (3, 0)]
    assert await asyncio.gather(*answers) == [[3, 0], [0, 0]]


async def test_a_refused_statement_undoes_its_batch_and_no_other(pipeline: Pipeline) -> None:
    await pipeline.send(("CREATE TEMPORARY TABLE seen (value int)", ()))
    insert = ("INSERT INTO seen VALUES ($1::int) RETURNING value", (1,))
    refused = pipeline.send(insert, ("SELECT 1 / $1::int", (0,)), insert)
    behind = pipeline.send(insert)
    with pytest.raises(Failed, match="division by zero"):
        await refused
    assert await behind == [1]
    assert await pipeline.send(("SELECT value FROM seen", ())) == [1]
    with pytest.raises(Failed, match="syntax error"):
        await pipeline.send(("SELECT FROM WHERE", ()))
    assert await pipeline.send(ONE) == [1]


async def test_a_transaction_that_failed_takes_nothing_until_it_is_rolled_back(pipeline: Pipeline) -> None:
    with pytest.raises(Failed):
        await pipeline.send(("BEGIN", ()), ("SELECT 1 / 0", ()))
    with pytest.raises(Failed, match="aborted"):
        await pipeline.send(ONE)
    await pipeline.send(("ROLLBACK", ()))
    assert await pipeline.send(ONE) == [1]


async def test_texts_of_any_size_arrive_whole(pipeline: Pipeline) -> None:
    text = "\u00e4 'quoted' \\ $1 " * 500_000
    same = ("SELECT 1 WHERE length($1::text) = $2::int", (text, len(text)))
    assert await asyncio.gather(*(pipeline.send(same) for _ in range(3))) == [[1]] * 3
    with pytest.raises(Failed, match="NUL"):
        await pipeline.send(("SELECT 1 WHERE $1::text = 'a'", ("a\0b",)))
    assert await pipeline.send(ONE) == [1]


async def test_what_is_cancelled_has_ended_on_the_server(pipeline: Pipeline) -> None:
    waiting = pipeline.send(("SELECT pg_sleep(60)", ()))
    await asyncio.sleep(0.05)
    await pipeline.cancel(5.0)
    with pytest.raises(Failed, match="cancel"):
        await waiting
    assert await pipeline.send(ONE) == [1]
    assert not pipeline.lost.is_set()


async def test_a_lost_connection_fails_what_is_under_way_and_what_comes_later(pipeline: Pipeline) -> None:
    under_way = pipeline.send(("SELECT pg_sleep(60)", ())), pipeline.send(ONE)
    assert await asyncio.to_thread(_terminate, pipeline) == 1
    for answer in under_way:
        with pytest.raises(Failed):
            await answer
    await asyncio.wait_for(pipeline.lost.wait(), 5)
    with pytest.raises(Failed, match="lost"):
        await pipeline.send(ONE)


async def test_one_that_nobody_waits_for_holds_up_nothing(pipeline: Pipeline) -> None:
    waiting = asyncio.ensure_future(_wait(pipeline))
    await asyncio.sleep(0.01)
    waiting.cancel()
    pipeline.send(("SELECT 1 / 0", ()))
    assert await pipeline.send(ONE) == [1]


async def _wait(pipeline: Pipeline) -> None:
    await pipeline.send(("SELECT pg_sleep(0.1)", ()))


def _terminate(pipeline: Pipeline) -> int:
    with psycopg.connect(pipeline._connection.info.dsn) as other:
        pid = pipeline._connection.info.backend_pid
        return other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid]).rowcount
