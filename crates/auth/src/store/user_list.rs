//! Pages of users for the admin API.

use pg::Pool;

use super::user::user_columns;
use super::{json_column, query, read};
use crate::error::Error;
use crate::user::{AUDIENCE, User};

/// One page of users and how many there are. `filter` is part of an address, a number or the name in the metadata, or a
/// whole id.
pub(crate) async fn user_page(
    pool: &Pool,
    filter: Option<&str>,
    ascending: bool,
    limit: i64,
    offset: i64,
) -> Result<(Vec<User>, i64), Error> {
    const NEWEST: &str = concat!(
        "select ",
        user_columns!(),
        " from auth.users u where u.aud = $1 and ($2::text is null or u.email ilike $2 or u.phone ilike $2
            or u.raw_user_meta_data ->> 'full_name' ilike $2 or u.id::text = $3)
        order by u.created_at desc, u.id limit $4::bigint offset $5::bigint"
    );
    const OLDEST: &str = concat!(
        "select ",
        user_columns!(),
        " from auth.users u where u.aud = $1 and ($2::text is null or u.email ilike $2 or u.phone ilike $2
            or u.raw_user_meta_data ->> 'full_name' ilike $2 or u.id::text = $3)
        order by u.created_at, u.id limit $4::bigint offset $5::bigint"
    );
    const COUNT: &str = "select count(*) from auth.users u where u.aud = $1 and ($2::text is null or u.email ilike $2
        or u.phone ilike $2 or u.raw_user_meta_data ->> 'full_name' ilike $2 or u.id::text = $3)";
    let escaped = |filter: &str| filter.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    let pattern = filter.map(|filter| format!("%{}%", escaped(filter)));
    let sql = if ascending { OLDEST } else { NEWEST };
    let page = [AUDIENCE.into(), pattern.as_ref().into(), filter.into(), limit.into(), offset.into()];
    let count = query(COUNT, [AUDIENCE.into(), pattern.as_ref().into(), filter.into()]);
    let results = read(pool, vec![query(sql, page), count]).await?;
    let mut results = results.into_iter();
    let users = results.next().unwrap_or_default();
    let count = results.next().and_then(|rows| rows.first()?.int(0)).unwrap_or_default();
    Ok((users.iter().map(|row| json_column(row, 0)).collect::<Result<_, _>>()?, count))
}
