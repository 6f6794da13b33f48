#!/bin/sh
# backup.sh --all | --platform | --project ID
# Makes backups, removes old ones, and copies all to BACKUP_S3_BUCKET and RSYNC_DEST where these are set.
set -eu
launchdb backup run "$@"
launchdb backup prune
exec "$(dirname "$0")/off-site.sh"
