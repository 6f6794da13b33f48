-- The control plane's own roles write also while the others may not: removing projects is what frees the disk. They are
-- the superuser and the owner of the platform database, where this runs. Holds from their next session on.
do $exempt$
declare
    exempt record;
begin
    for exempt in
        select role.rolname
        from pg_catalog.pg_roles role
        where (role.rolname = session_user
                or role.oid = (select datdba from pg_catalog.pg_database where datname = current_database()))
            and not exists (
                select from pg_catalog.pg_db_role_setting setting
                where setting.setrole = role.oid and setting.setdatabase = 0
                    and 'default_transaction_read_only=off' = any (setting.setconfig)
            )
    loop
        execute pg_catalog.format('alter role %I set default_transaction_read_only = off', exempt.rolname);
    end loop;
end
$exempt$
