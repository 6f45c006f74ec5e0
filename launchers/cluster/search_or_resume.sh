#!/usr/bin/env bash
# search_or_resume.sh FOLDER [SETTING...]: search.py with the study in FOLDER, begun or continued, whichever is due.
# For machinery that starts the same command again after a failure.
set -euo pipefail
folder=$1
shift
resume=false
if [ -e "$folder/config.yaml" ]; then resume=true; fi
here=$(cd "$(dirname "$0")" && pwd)
exec python "$here/../search.py" "results=$(dirname "$folder")" "study=$(basename "$folder")" "resume=$resume" "$@"
