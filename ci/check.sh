#!/usr/bin/env bash
# Annotations on stdout, the tables into the summary of the job; exits as `memcalc check` does.
# FILES: separated by spaces; BASELINE and FAIL_ON as the options of that name; GITHUB_STEP_SUMMARY: where the tables go.
set -uo pipefail
read -r -a files <<< "${FILES:-memcalc.toml}"
options=(--fail-on "${FAIL_ON:-exceeded}")
[ -z "${BASELINE:-}" ] || options+=(--baseline "$BASELINE")
memcalc check "${options[@]}" --format github -- "${files[@]}"
code=$?
[ -z "${GITHUB_STEP_SUMMARY:-}" ] || memcalc check "${options[@]}" --format markdown -- "${files[@]}" >> "$GITHUB_STEP_SUMMARY" 2> /dev/null
exit "$code"
