#!/bin/sh
# backup.sh --all | --platform | --project ID
# Makes backups, removes old ones, and copies all to RSYNC_DEST when that is set.
set -eu
launchdb backup run "$@"
launchdb backup prune
if [ -n "${RSYNC_DEST:-}" ]; then
    ssh="ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new"
    if [ -n "${RSYNC_SSH_KEY_PATH:-}" ]; then
        ssh="$ssh -i $RSYNC_SSH_KEY_PATH"
    fi
    # Whoever deletes files here, by mistake or with intent, does not delete them there, unless that is asked for.
    rsync --archive --partial ${RSYNC_DELETE:+--delete-after} --include='*.sql.gpg' --exclude='*' -e "$ssh" \
        "${LAUNCHDB_BACKUP_DIR:-/backups}/" "$RSYNC_DEST"
fi
