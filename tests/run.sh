#!/bin/sh
# All tests, four at once. A few that fail are run once more, alone: docs/decisions/0018-a-second-look.md.
# Usage: tests/run.sh PYTEST [ARGUMENT...]
set -u
pytest=$1
shift
few=3
failures=.pytest_cache/v/cache/lastfailed

rm -f "$failures"
"$pytest" -q -n 4 --dist loadgroup "$@"
status=$?
# 1 is "tests failed"; whatever else went wrong is no chance.
[ "$status" -eq 1 ] && [ -f "$failures" ] || exit "$status"
failed=$(grep -c '^ ' "$failures")
[ "$failed" -le "$few" ] || exit "$status"
echo "SECOND LOOK: $failed of these tests failed among others; now alone. What passes only here is to be mended." >&2
# With several workers a test's name ends in @ and its group.
sed -i 's/@[^@"]*": true/": true/' "$failures"
exec "$pytest" -q --last-failed --last-failed-no-failures none "$@"
