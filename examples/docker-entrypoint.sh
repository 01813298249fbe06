#!/bin/sh
# A container's entrypoint: puts the credentials into the environment, then becomes the command.
#
#   COPY docker-entrypoint.sh /
#   ENTRYPOINT ["/docker-entrypoint.sh"]
#   CMD ["my-app"]
#
# No secret is in the image or in what `docker inspect` shows. The container's role decides which
# credentials there are. Processes of the same user, and root, can read them in /proc/PID/environ.
set -eu

# In two steps: `eval "$(credstash …)"` would hide a failure, since an eval of nothing succeeds.
# credstash prints `export NAME='value'` lines, quoted for the shell, and nothing at all if it fails.
credentials=$(credstash getall -f shell)
eval "$credentials"
unset credentials

: "${1:?the command to run is missing}"
exec "$@" # in this process's place, so that it gets the signals of `docker stop`
