#!/usr/bin/env bash
# search_or_resume.sh FOLDER [SETTING...]: search.py with the study in FOLDER, begun or continued, whichever is due.
# For machinery that starts the same command again after a failure; a study that is finished, but for configurations or
# finals that failed, is none.
set -euo pipefail
folder=$1
shift
resume=false
if [ -e "$folder/config.yaml" ]; then resume=true; fi
here=$(cd "$(dirname "$0")" && pwd)
exec python "$here/accept_incomplete.py" "$here/../search.py" "results=$(dirname "$folder")" "study=$(basename "$folder")" "resume=$resume" "$@"
