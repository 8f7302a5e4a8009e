#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""skips.py REPORT.xml... - which tests were skipped, and why, from ctest's JUnit reports.

A program that skipped as a whole gives its last line of output as the reason; a program of which single tests
were skipped (cmocka's "[  SKIPPED ]" lines) is listed with their number.
"""
import re
import sys
import xml.etree.ElementTree as tree


def reason(text):
    lines = [s.strip() for s in text.splitlines()]
    said = [s for s in lines if re.search(r"\bskip", s, re.I) and not s.startswith("[")]
    plain = [s for s in lines if s and not s.startswith("[")]
    return (said or plain or ["no reason given"])[-1]


def main():
    total = 0
    for path in sys.argv[1:]:
        try:
            cases = tree.parse(path).getroot().iter("testcase")
        except (OSError, tree.ParseError) as e:
            print(f"{path}: no report: {e}")
            continue
        for case in cases:
            text = case.findtext("system-out") or ""
            name = case.get("name")
            single = sorted(set(re.findall(r"^\[  SKIPPED \] (\S+)$", text, re.M)))
            if case.get("status") in ("notrun", "disabled") or case.find("skipped") is not None:
                total += 1
                print(f"skipped: {name}: {reason(text)}")
            elif single:
                total += len(single)
                print(f"skipped in {name}: {', '.join(single)}: {reason(text)}")
    print(f"{total} tests skipped")


if __name__ == "__main__":
    main()
