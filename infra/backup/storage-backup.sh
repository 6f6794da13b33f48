#!/bin/sh
# storage-backup.sh [--checksum] [--project ID]
# Backs up the storage service's files, encrypted and under the hashes of their contents, only what is new; then copies all
# to BACKUP_S3_BUCKET and RSYNC_DEST where these are set. With --checksum every file is read again.
set -eu
launchdb backup files run "$@"
exec "$(dirname "$0")/off-site.sh"
