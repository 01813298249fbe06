#!/bin/sh
# A boot script: fetches what an application needs, then becomes the application.
#
#   boot.sh /usr/local/bin/my-app its arguments
#
# When a credential cannot be had, it stops before the application starts.
set -eu

# The plain form, as many boot scripts have it. `export` succeeds whatever became of the command
# inside, so `set -e` sees no failure and the script would go on with an empty value: the line after
# it must look. The quotes matter too, since older shells split an unquoted value at its blanks.
# shellcheck disable=SC2155  # shown for this very reason
export API_KEY="$(credstash get api.key)"
: "${API_KEY:?is empty: credstash failed, and says why above}"

# The safe form. An assignment alone has the exit status of its command, and `set -e` stops here.
DB_PASSWORD=$(credstash get db.password)
export DB_PASSWORD

: "${1:?the application to start is missing}"
exec "$@"
