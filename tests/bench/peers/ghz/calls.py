"""ghz, an independent load tool, calls our own server: a cross-check of what our callers measure."""

from __future__ import annotations

import argparse
import json
import os
import resource
import secrets
import subprocess
import tempfile
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from peers import Failed, end_on_signals, report

CHECKOUT = Path(__file__).resolve().parents[4]
CREDENTIALS = CHECKOUT / ".runledger" / "credentials.toml"
# As our own callers do.
CONNECTIONS = 4
RUNS = 512
# With its ids and its time a fact is about a kilobyte.
ARGUMENTS = '{"text":"' + "x" * 640 + '"}'

Settings = dict[str, Any]


def fact(session: str) -> Settings:
    """A fact whose ids ghz makes afresh for every call; `session` keeps its runs apart from those of earlier ones."""
    return {
        "id": "{{newUUID}}",
        "occurred_at": "{{.Timestamp}}",
        "tool_call_started": {
            "run_id": f"ghz-{session}-{{{{mod .RequestNumber {RUNS}}}}}",
            "tool_call_id": "{{.UUID}}",
            "tool": "load",
            "arguments_json": ARGUMENTS,
        },
    }


def settings(address: str, key: str) -> Settings:
    """What all calls have in common."""
    protos = CHECKOUT / "proto"
    return {
        "proto": str(protos / "runledger" / "run" / "v1" / "ingest.proto"),
        "import-paths": [str(protos)],
        "call": "runledger.run.v1.ToolCallIngestService/Append",
        "host": address,
        "insecure": True,
        "metadata": {"authorization": f"Bearer {key}"},
        "data": {"facts": [fact(secrets.token_hex(4))]},
        # calls under way at the end are waited for, and count
        "duration-stop": "wait",
        "format": "json",
    }


def run(ghz: Path, folder: Path, settings: Settings) -> Settings:
    """What ghz tells of one run of itself; every call must have been answered."""
    # The key is in this file, and so not among the arguments of a process; nor may what ghz says of it get out.
    file = folder / "ghz.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(settings))
    command: list[str | Path] = ["setpriv", "--pdeathsig", "KILL", ghz, "--config", file]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"ghz ended with status {done.returncode}: {done.stderr.strip()}")
    told: Settings = json.loads(done.stdout)
    answers = told["statusCodeDistribution"]
    if told["count"] == 0 or answers != {"OK": told["count"]}:
        raise Failed(f"of {told['count']} calls not all were answered: {answers} {told['errorDistribution']}")
    return told


def must_be_accepted(log: str) -> None:
    """An answer tells of each fact what became of it, which ghz does not look at: its debug log has the answers."""
    lines = [json.loads(line) for line in log.splitlines()]
    answers = [json.loads(line["response"]) for line in lines if line["message"] == "Received response"]
    results = [result for answer in answers for result in answer["results"]]
    if not results or not all("accepted" in result for result in results):
        raise Failed(f"the fact that ghz sends is not accepted: {answers}")


def figures(told: Settings, cpu_s: float, version: str) -> dict[str, object]:
    count = told["count"]
    waited_ms = {each["percentage"]: round(each["latency"] / 1e6, 3) for each in told["latencyDistribution"]}
    return {
        "row": "ingest_one",
        "who": f"called by ghz {version}",
        "events": count,
        "seconds": round(told["total"] / 1e9, 2),
        "rate": round(told["rps"], 1),
        "cpu_us_per_event": {"client": round(cpu_s * 1e6 / count, 1)},
        "p50_ms": waited_ms[50],
        "p99_ms": waited_ms[99],
    }


def cpu_of_children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(arguments: argparse.Namespace, address: str, key: str, folder: Path) -> dict[str, object]:
    common = settings(address, key)
    log = folder / "debug.log"
    run(arguments.ghz, folder, common | {"total": 1, "concurrency": 1, "connections": 1, "debug": str(log)})
    must_be_accepted(log.read_text())
    load = common | {"concurrency": arguments.callers, "connections": min(CONNECTIONS, arguments.callers)}
    if arguments.warm_up > 0:
        run(arguments.ghz, folder, load | {"duration": f"{arguments.warm_up}s"})
    before = cpu_of_children_s()
    told = run(arguments.ghz, folder, load | {"duration": f"{arguments.seconds}s"})
    return figures(told, cpu_of_children_s() - before, arguments.version)


def target(arguments: argparse.Namespace) -> tuple[str, str]:
    """Address and key: as given, or else as the file of credentials has them."""
    address, key = arguments.address, os.environ.get("RUNLEDGER_KEY")
    if address and key:
        return address, key
    try:
        known = tomllib.loads(arguments.credentials.read_text())
        return address or urlsplit(known["endpoints"]["ingest"]).netloc, key or known["keys"]["agent"]
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        raise Failed(
            f"{arguments.credentials} cannot be used ({type(error).__name__}: {error}); `runledger dev` writes it, "
            "or give --address and RUNLEDGER_KEY"
        ) from error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ghz", type=Path, required=True, help="the program")
    parser.add_argument("--version", required=True, help="its version")
    parser.add_argument("--data", type=Path, required=True, help="where a folder is made, and deleted again")
    parser.add_argument("--credentials", type=Path, default=CREDENTIALS, help="address and agent's key of a server")
    parser.add_argument("--address", help="of the server instead; the key is then that of RUNLEDGER_KEY, if it is set")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--warm-up", type=int, default=2, help="seconds before that")
    parser.add_argument("--callers", type=int, default=64)
    arguments = parser.parse_args()
    end_on_signals()
    try:
        with tempfile.TemporaryDirectory(prefix="ghz-", dir=arguments.data) as folder:
            report(measure(arguments, *target(arguments), Path(folder)))
    except KeyboardInterrupt:
        raise SystemExit("ghz: interrupted") from None
    except Failed as failed:
        raise SystemExit(f"ghz: {failed}") from None


if __name__ == "__main__":
    main()
