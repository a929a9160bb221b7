"""Replays recorded upstream answers through a running gateway and compares the gateway's reading of each
with the reading of the vendor's own SDK. See `docs/conformance.md`."""

import argparse
import pathlib
import sys
import warnings

import compare
import readers
import recordings
import refusals
import report
from answers import AnswerServer
from gateway import CREDENTIAL, Gateway
from report import AGREE, DIFFER, SKIPPED, Row

# In one piece, and with every byte in a chunk of its own.
MODES = ("whole", "pieces")
# How often the gateway may ask: it retries a failure on the vendor's side once.
TRIES = {True: 2, False: 1}


def main():
    # SDKs warn of values that they do not know.
    warnings.simplefilter("ignore")
    options = _options()
    recorded = recordings.read(options.folder)
    if options.only:
        recorded = [recording for recording in recorded if options.only in recording.path]
    if not recorded:
        sys.exit(f"no recordings in {options.folder}")
    answers = AnswerServer(recorded)
    pairs = sorted({(one.wire, one.vendor) for one in recorded if one.wire})
    gateway = Gateway(options.binary, options.work, answers.url, pairs)
    gateway.start()
    try:
        rows = [_row(recording, gateway, answers, options) for recording in recorded]
    finally:
        gateway.stop()
        answers.close()
    report.print_table(rows)
    report.print_details(rows)
    if options.json:
        report.write(rows, options.json)
    sys.exit(any(row.verdict == DIFFER for row in rows))


def _options():
    parser = argparse.ArgumentParser(prog="conformance", description=__doc__)
    parser.add_argument("folder", help="the recordings: MANIFEST.tsv, HEADERS.jsonl and the files that they name")
    parser.add_argument("--binary", required=True, help="the gateway")
    parser.add_argument("--work", required=True, type=pathlib.Path, help="a folder for its config and log")
    parser.add_argument("--only", help="only files whose path has this in it")
    parser.add_argument("--plain", action="store_true", help="read without the SDKs, with the plain readers that replace them")
    parser.add_argument("--json", help="write every row to this file")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    return options


def _row(recording, gateway, answers, options):
    row = Row(recording.path, recording.protocol, recording.wire or "-", AGREE)
    why_not = _why_not(recording, gateway)
    if why_not:
        row.verdict = SKIPPED
        row.notes.append(why_not)
        return row
    if not gateway.presets[recording.wire, recording.vendor]:
        row.notes.append(f"no preset for {recording.vendor}: the wire as it is")
    expected = None
    if recording.status == 200:
        expected, row.reader = readers.read(recording, answers.url, options.plain)
        row.notes.extend(expected.notes)
    else:
        row.reader = "the rules for refusals"
    for mode in MODES:
        for field, words in _differences(recording, expected, gateway, answers, mode):
            row.differences.append((mode, field, words))
    if row.differences:
        row.verdict = DIFFER
    return row


def _why_not(recording, gateway):
    if recording.wire is None:
        return f"{recording.protocol}: an API that the gateway has no wire for"
    if recording.wire not in gateway.wires:
        return f"{recording.wire}: this gateway does not speak it"
    return None


def _differences(recording, expected, gateway, answers, mode):
    key = f"{mode}-{recording.number}"
    heard, status, text = gateway.ask(recording, key)
    if expected is None:
        yield from refusals.differences(recording, status, heard, text)
    else:
        yield from compare.differences(expected, heard)
    if CREDENTIAL in text:
        yield "private", "shows the upstream's credential"
    if answers.asked[key] not in range(1, TRIES[recording.status >= 500] + 1):
        yield "requests", f"the gateway asked {answers.asked[key]} times"


main()
