#!/usr/bin/env bash
# Annotations on stdout, the tables into the summary of the job and, with COMMENT=true, into a comment that replaces its earlier
# self; exits as `memcalc check` does.
# FILES: separated by spaces; GPU, GPUS, BASELINE and FAIL_ON as the options of that name; GITHUB_STEP_SUMMARY: where the tables go.
set -uo pipefail
read -r -a files <<< "${FILES:-memcalc.toml}"
options=(--fail-on "${FAIL_ON:-exceeded}")
[ -z "${BASELINE:-}" ] || options+=(--baseline "$BASELINE")
[ -z "${GPU:-}" ] || options+=(--gpu "$GPU")
[ -z "${GPUS:-}" ] || options+=(--gpus "$GPUS")
memcalc check "${options[@]}" --format github -- "${files[@]}"
code=$?
report=$(mktemp)
trap 'rm -f "$report"' EXIT
memcalc check "${options[@]}" --format markdown -- "${files[@]}" > "$report" 2> /dev/null
[ -z "${GITHUB_STEP_SUMMARY:-}" ] || cat "$report" >> "$GITHUB_STEP_SUMMARY"
if [ "${COMMENT:-}" = true ] && [ -s "$report" ]; then
  python3 "$(dirname "${BASH_SOURCE[0]}")/comment.py" "$report" || true
fi
exit "$code"
