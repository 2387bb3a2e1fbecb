"""Kafka Connect with Debezium's JDBC sink: a topic of records into a Postgres table, by upsert on its key.

Timed from the first rows that a count shows to all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from peers import Cpu, Failed, Looking, Process, Stack, end_on_signals, free_port, report, say, us_per_event

WHO = "kafka connect 4.2.1, debezium jdbc sink 3.3.1"
CHECKOUT = Path(__file__).resolve().parents[4]
TABLE = "records"
# With its key a record is about a kilobyte.
PAYLOAD = '{"text":"' + "x" * 960 + '"}'
# The sink takes its key from a struct.
KEY_SCHEMA = {"type": "struct", "fields": [{"field": "id", "type": "string", "optional": False}]}
STARTS_WITHIN_S = 120
# It leaves its consumer group when it is asked to end, and not when it is killed.
ENDS_WITHIN_S = 20
STALLED_AFTER_S = 60
# A count is asked for again when about this share of what is left should have come.
COUNT_AGAIN_AFTER = 0.7
COUNT_EVERY_S = (0.1, 2.0)


class Tools:
    """Kafka's command line tools, from the same jars as the worker."""

    def __init__(self, stack: Stack, jars: Path, folder: Path) -> None:
        self.kafka = stack.kafka
        log4j = CHECKOUT / "deploy" / "dev" / "kafka" / "log4j2.properties"
        self.java = ["java", f"-Drunledger.logs={folder}", f"-Dlog4j2.configurationFile={log4j}"]
        self.java += ["-Xms256m", "-Xmx1g", "-XX:+UseParallelGC", "-XX:-UsePerfData"]
        self.java += ["-cp", f"{jars}/worker/*"]

    def command(self, tool: str, *arguments: str) -> list[str]:
        return [*self.java, f"org.apache.kafka.tools.{tool}", "--bootstrap-server", self.kafka, *arguments]

    def run(self, tool: str, *arguments: str) -> str:
        done = subprocess.run(
            self.command(tool, *arguments), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise Failed(f"{tool} {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    @contextlib.contextmanager
    def topic(self, name: str, partitions: int) -> Iterator[None]:
        # an interrupt may come when the broker has it already
        try:
            self.run("TopicCommand", "--create", "--topic", name, "--partitions", str(partitions))
            yield
        finally:
            self.run("TopicCommand", "--delete", "--topic", name, "--if-exists")

    @contextlib.contextmanager
    def group(self, name: str) -> Iterator[None]:
        """Deletes in the end what a consumer group has left."""
        try:
            yield
        finally:
            # members that had to be killed are let go of when their session is over, after 45 s
            for attempt in range(1, 26):
                # its status is 0 in any case
                told = self.run("consumer.group.ConsumerGroupCommand", "--delete", "--group", name)
                if "successful" in told or "does not exist" in told:
                    break
                say(f"the consumer group cannot be deleted yet ({attempt} of at most 25): {told.strip()}")
                time.sleep(2)

    def produce(self, topic: str, records: int) -> None:
        command = self.command("ConsoleProducer", "--topic", topic, "--reader-property", "parse.key=true")
        for setting in ("acks=all", "linger.ms=20", "batch.size=131072", "compression.type=none"):
            command += ["--command-property", setting]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as producer:
            assert producer.stdin is not None
            try:
                for number in range(records):
                    producer.stdin.write(f'{{"id":"event-{number:012}"}}\t{PAYLOAD}\n')
                    if number % 100_000 == 99_999:
                        say(f"{number + 1} records produced")
                producer.stdin.close()
                status = producer.wait()
            except BaseException:
                producer.kill()
                raise
        if status != 0:
            raise Failed(f"the producer ended with status {status}")


def properties(file: Path, settings: dict[str, object]) -> Path:
    file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return file


def worker_settings(stack: Stack, jars: Path, folder: Path, rest_port: int) -> dict[str, object]:
    return {
        "bootstrap.servers": stack.kafka,
        "listeners": f"http://127.0.0.1:{rest_port}",
        "plugin.path": jars / "plugins",
        "plugin.discovery": "only_scan",
        "offset.storage.file.filename": folder / "offsets",
        "offset.flush.interval.ms": 5000,
        "key.converter": "org.apache.kafka.connect.json.JsonConverter",
        "key.converter.schema.content": json.dumps(KEY_SCHEMA),
        "value.converter": "org.apache.kafka.connect.converters.ByteArrayConverter",
    }


def sink_settings(stack: Stack, name: str, tasks: int) -> dict[str, object]:
    url = urlsplit(stack.postgres_url)
    return {
        "name": name,
        "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
        "tasks.max": tasks,
        "topics": name,
        "consumer.override.max.poll.records": 2000,
        "connection.url": f"jdbc:postgresql://127.0.0.1:{url.port}/{name}?reWriteBatchedInserts=true",
        "connection.username": url.username,
        "connection.password": url.password,
        "insert.mode": "upsert",
        "primary.key.mode": "record_key",
        "primary.key.fields": "id",
        "schema.evolution": "none",
        "collection.name.format": TABLE,
        "batch.size": 1000,
        # bytes have no columns until they are put into one
        "transforms": "column",
        "transforms.column.type": "org.apache.kafka.connect.transforms.HoistField$Value",
        "transforms.column.field": "payload",
    }


class Sink:
    """The worker with its one connector."""

    def __init__(self, worker: Process, looking: Looking, status_url: str) -> None:
        self.worker = worker
        self.looking = looking
        self.status_url = status_url

    def look(self) -> tuple[float, int]:
        """A moment, and the rows of that moment: a count sees what there was when it began."""
        now = time.monotonic()
        return now, int(self.looking.ask(f"SELECT count(*) FROM {TABLE}"))

    def must_run(self) -> None:
        self.worker.must_run()
        try:
            with urlopen(self.status_url, timeout=5) as answer:
                status = json.load(answer)
        except (URLError, OSError):
            return  # it has not begun to listen, or has no time
        for part in [status["connector"], *status["tasks"]]:
            if part["state"] == "FAILED":
                raise self.worker.failed(f"has a part that failed: {part.get('trace', '')[:2000]}")

    def first_rows(self) -> tuple[float, int]:
        end = time.monotonic() + STARTS_WITHIN_S
        while (found := self.look())[1] == 0:
            self.must_run()
            if time.monotonic() > end:
                raise self.worker.failed(f"has written nothing in {STARTS_WITHIN_S} s")
            time.sleep(0.05)
        return found

    def all_rows(self, records: int, begin: float, first: int) -> float:
        """When all have come. A count reads the whole table, so it is asked for more often only towards the end."""
        rows, moved, now = first, begin, begin
        while rows < records:
            speed = (rows - first) / (now - begin) if now > begin else 0
            left = (records - rows) / speed if speed else 0
            time.sleep(min(max(left * COUNT_AGAIN_AFTER, COUNT_EVERY_S[0]), COUNT_EVERY_S[1]))
            before, (now, rows) = rows, self.look()
            self.must_run()
            if rows > before:
                moved = now
            elif now - moved > STALLED_AFTER_S:
                raise self.worker.failed(f"has written nothing for {STALLED_AFTER_S} s")
            say(f"{rows} rows")
        if rows > records:
            raise Failed(f"{rows} rows of {records} records")
        return now

    def measure(self, stack: Stack, records: int) -> dict[str, object]:
        """From the first rows that a count shows to all of them: starting is no part of it."""
        begin, first = self.first_rows()
        cpu = Cpu(
            server=self.worker.child.pid,
            postgres=stack.postgres_pid,
            kafka=stack.kafka_pid,
            looking=self.looking.pid,
        )
        end = self.all_rows(records, begin, first)
        spent, events, seconds = cpu.spent_s(), records - first, end - begin
        if events == 0:
            raise Failed("all rows came at once: measure more of them (--rows)")
        return {
            "events": events,
            "seconds": round(seconds, 2),
            "rate": round(events / seconds, 1),
            "rows": records,
            "cpu_us_per_event": us_per_event(spent, events),
        }


def measure(arguments: argparse.Namespace, folder: Path, leave: contextlib.ExitStack) -> None:
    stack = Stack.found()
    name = f"bench_connect_{os.getpid()}"
    tools = Tools(stack, arguments.jars, folder)
    leave.enter_context(stack.database(name))
    stack.psql(f"CREATE TABLE {TABLE} (id text PRIMARY KEY, payload bytea NOT NULL)", name)
    leave.enter_context(tools.topic(name, arguments.partitions))
    say(f"producing {arguments.rows} records")
    tools.produce(name, arguments.rows)
    leave.enter_context(tools.group(f"connect-{name}"))
    rest_port = free_port()
    command: list[str | Path] = [
        *tools.java,
        "org.apache.kafka.connect.cli.ConnectStandalone",
        properties(folder / "worker.properties", worker_settings(stack, arguments.jars, folder, rest_port)),
        properties(folder / "sink.properties", sink_settings(stack, name, arguments.tasks)),
    ]
    say("starting Kafka Connect")
    worker = leave.enter_context(Process("Kafka Connect", command, folder / "kafka.log", os.environ, ENDS_WITHIN_S))
    looking = leave.enter_context(stack.looking(name))
    status_url = f"http://127.0.0.1:{rest_port}/connectors/{name}/status"
    measured = Sink(worker, looking, status_url).measure(stack, arguments.rows)
    report({"row": "project", "who": f"{WHO}, {arguments.tasks} tasks", **measured})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jars", type=Path, required=True, help="where worker/ and plugins/ are")
    parser.add_argument("--data", type=Path, required=True, help="where a folder is made, and deleted again")
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument("--partitions", type=int, default=4)
    arguments = parser.parse_args()
    end_on_signals()
    try:
        with contextlib.ExitStack() as leave:
            folder = leave.enter_context(tempfile.TemporaryDirectory(prefix="connect-", dir=arguments.data))
            measure(arguments, Path(folder), leave)
    except KeyboardInterrupt:
        raise SystemExit("connect: interrupted") from None
    except Failed as failed:
        raise SystemExit(f"connect: {failed}") from None


if __name__ == "__main__":
    main()
