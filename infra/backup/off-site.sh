#!/bin/sh
# off-site.sh: copies the folder of backups to the bucket BACKUP_S3_BUCKET and to RSYNC_DEST; nothing where neither is set.
# What was removed here stays there unless RSYNC_DELETE is set: a mistake or a thief here would empty the copy. Only
# encrypted files go.
set -eu
if [ -n "${BACKUP_S3_BUCKET:-}" ]; then
    launchdb backup push
fi
if [ -n "${RSYNC_DEST:-}" ]; then
    ssh="ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new"
    if [ -n "${RSYNC_SSH_KEY_PATH:-}" ]; then
        ssh="$ssh -i $RSYNC_SSH_KEY_PATH"
    fi
    rsync --archive --partial ${RSYNC_DELETE:+--delete-after} --include='*/' --include='*.gpg' --exclude='*' -e "$ssh" \
        "${LAUNCHDB_BACKUP_DIR:-/backups}/" "$RSYNC_DEST"
fi
