#!/bin/sh
# storage-backup.sh [--checksum]
# Copies the storage service's files, only what changed, to /backups/storage, and from there to RSYNC_DEST when that is set.
# With --checksum every file is compared by its content. Files are copied as they are, not encrypted.
set -eu
from=${STORAGE_PATH:-/var/lib/launchdb/storage}
to=${LAUNCHDB_BACKUP_DIR:-/backups}/storage
mkdir -p "$to"
rsync --archive --delete-after "$@" "$from/" "$to/"
if [ -n "${RSYNC_DEST:-}" ]; then
    ssh="ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new"
    if [ -n "${RSYNC_SSH_KEY_PATH:-}" ]; then
        ssh="$ssh -i $RSYNC_SSH_KEY_PATH"
    fi
    # Whoever deletes files here, by mistake or with intent, does not delete them there, unless that is asked for.
    rsync --archive --partial ${RSYNC_DELETE:+--delete-after} -e "$ssh" "$to/" "$RSYNC_DEST/storage/"
fi
