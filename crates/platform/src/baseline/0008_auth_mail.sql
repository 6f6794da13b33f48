-- run as: superuser
-- Mails of the auth service that wait to be sent. A row is written in the transaction of the request that needs it, so
-- that no crash loses one; a worker renders and sends it. Rows hold one-time codes: nobody but the auth service reads them.

set local search_path = pg_catalog, pg_temp;

create table _launchdb.mail_queue (
    id bigint generated always as identity primary key,
    user_id uuid,
    -- The template: confirmation, invite, magic_link, recovery, email_change, reauthentication.
    kind text not null,
    recipient text not null,
    -- What templates and the send-email hook see: user, token, token_hash, redirect_to, email_action_type, ...
    data jsonb not null,
    created_at timestamptz not null default now(),
    next_attempt_at timestamptz not null default now(),
    attempts integer not null default 0,
    -- Whose turn it is: a worker that died loses it at this time.
    claimed_until timestamptz,
    sent_at timestamptz,
    failed_at timestamptz,
    -- Why the last attempt failed, in the words of the mail server; never a code.
    last_error text
);
create index mail_queue_waiting_idx on _launchdb.mail_queue (next_attempt_at)
    where sent_at is null and failed_at is null;
create index mail_queue_done_idx on _launchdb.mail_queue (created_at) where sent_at is not null or failed_at is not null;
comment on table _launchdb.mail_queue is 'Mails of the auth service that wait to be sent.';

revoke all on table _launchdb.mail_queue from public;
grant select, insert, update, delete on table _launchdb.mail_queue to supabase_auth_admin;
