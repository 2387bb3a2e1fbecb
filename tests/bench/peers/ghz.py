"""ghz, an independent load tool, calls our own server: a cross-check of what our callers measure."""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

from peers import Failed, end_on_signals, report

CHECKOUT = Path(__file__).resolve().parents[3]
CALL = "runledger.run.v1.ToolCallIngestService/Append"
# With its ids and its time a fact is about a kilobyte, as those of our own callers are.
ARGUMENTS = '{"text":"' + "x" * 640 + '"}'
FACT = {
    "id": "{{newUUID}}",
    "occurred_at": "{{.Timestamp}}",
    "tool_call_started": {
        "run_id": "ghz-{{.WorkerID}}",
        "tool_call_id": "{{.UUID}}",
        "tool": "load",
        "arguments_json": ARGUMENTS,
    },
}


def configuration(credentials: Path, seconds: int, callers: int) -> dict[str, object]:
    known = tomllib.loads(credentials.read_text())
    return {
        "proto": str(CHECKOUT / "proto" / "runledger" / "run" / "v1" / "ingest.proto"),
        "import-paths": [str(CHECKOUT / "proto")],
        "call": CALL,
        "host": urlsplit(known["endpoints"]["ingest"]).netloc,
        "insecure": True,
        "metadata": {"authorization": f"Bearer {known['keys']['agent']}"},
        "data": {"facts": [FACT]},
        "concurrency": callers,
        "connections": 4,
        "duration": f"{seconds}s",
        "duration-stop": "wait",
        "format": "json",
    }


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    # Mode 0600: the key is in it, and must not be among the arguments of a process.
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(configuration(arguments.credentials, arguments.seconds, arguments.callers), file)
        file.flush()
        command = ["setpriv", "--pdeathsig", "KILL", arguments.ghz, "--config", file.name]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"ghz: {done.stderr}{done.stdout[:2000]}")
    told = json.loads(done.stdout)
    answered = told["statusCodeDistribution"].get("OK", 0)
    if answered != told["count"]:
        raise Failed(f"of {told['count']} calls {answered} were answered: {told['statusCodeDistribution']}")
    waited = {each["percentage"]: each["latency"] / 1e6 for each in told["latencyDistribution"]}
    return {
        "row": "ingest_one",
        "who": f"called by ghz {arguments.version}",
        "events": answered,
        "rate": round(told["rps"], 1),
        "p50_ms": round(waited[50], 3),
        "p99_ms": round(waited[99], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ghz", required=True, help="the program")
    parser.add_argument("--version", required=True, help="its version")
    parser.add_argument("--credentials", type=Path, required=True, help="where the server is, and an agent's key")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--callers", type=int, default=64)
    arguments = parser.parse_args()
    end_on_signals()
    try:
        report(measure(arguments))
    except KeyboardInterrupt:
        raise SystemExit("ghz: interrupted") from None
    except Failed as failed:
        raise SystemExit(str(failed)) from None


if __name__ == "__main__":
    main()
