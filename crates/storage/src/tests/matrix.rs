//! Who may do what, as a table: policy x bucket x operation x caller. The object is user A's.
//!
//! `+` done, `-` refused, `0` as if there were nothing, `e` an empty list.

use std::fmt::Write as _;

use axum::body::Body;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use expect_test::{Expect, expect};
use serde_json::json;

use super::{Answer, USER_A, USER_B, Who, World};

const CALLERS: [(&str, Who); 5] = [
    ("nobody", Who::Nobody),
    ("anon", Who::Anon),
    ("user A", Who::User(USER_A)),
    ("user B", Who::User(USER_B)),
    ("service", Who::Service),
];

const OPERATIONS: [&str; 17] = [
    "upload",
    "overwrite",
    "update",
    "resumable",
    "download",
    "public link",
    "info",
    "list",
    "list v2",
    "sign",
    "sign many",
    "sign upload",
    "move",
    "copy",
    "delete",
    "delete many",
    "empty",
];

fn symbol(answer: &Answer) -> char {
    if answer.status.is_success() {
        return '+';
    }
    let outcome = answer.outcome();
    if outcome.contains(" 403 ") || outcome.starts_with("403 ") {
        '-'
    } else if outcome.contains(" 404 ") || outcome.starts_with("404 ") {
        '0'
    } else {
        panic!("{outcome}")
    }
}

/// `e` for an empty list.
fn of_list(answer: &Answer, list: &str) -> char {
    let body = answer.json();
    let list = if list.is_empty() { &body } else { &body[list] };
    match list.as_array() {
        Some(list) if list.is_empty() => 'e',
        Some(list) if list.iter().all(|entry| entry.get("signedURL").is_some_and(serde_json::Value::is_null)) => 'e',
        _ => symbol(answer),
    }
}

async fn operate(world: &World, who: Who, bucket: &str, operation: &str) -> char {
    let object = format!("/object/{bucket}/a.txt");
    let route = json!({"bucketId": bucket, "sourceKey": "a.txt", "destinationKey": "new.txt"});
    let answer = match operation {
        "upload" => world.ask(who, &format!("POST /object/{bucket}/new.txt"), &[], "x").await,
        "overwrite" => world.ask(who, &format!("POST {object}"), &[("x-upsert", "true")], "x").await,
        "update" => world.ask(who, &format!("PUT {object}"), &[], "x").await,
        "resumable" => {
            let pairs = [("bucketName", bucket), ("objectName", "new.txt")];
            let pairs: Vec<_> = pairs.iter().map(|(k, v)| format!("{k} {}", BASE64_STANDARD.encode(v))).collect();
            let headers = [("tus-resumable", "1.0.0"), ("upload-length", "0"), ("upload-metadata", &*pairs.join(","))];
            world.ask(who, "POST /upload/resumable", &headers, "").await
        }
        "download" => world.get(who, &object).await,
        "public link" => world.get(who, &format!("/object/public/{bucket}/a.txt")).await,
        "info" => world.get(who, &format!("/object/info/{bucket}/a.txt")).await,
        "list" => return of_list(&world.post(who, &format!("/object/list/{bucket}"), json!({"prefix": ""})).await, ""),
        "list v2" => {
            return of_list(&world.post(who, &format!("/object/list-v2/{bucket}"), json!({})).await, "objects");
        }
        "sign" => world.post(who, &format!("/object/sign/{bucket}/a.txt"), json!({"expiresIn": 9})).await,
        "sign many" => {
            let body = json!({"expiresIn": 9, "paths": ["a.txt"]});
            return of_list(&world.post(who, &format!("/object/sign/{bucket}"), body).await, "");
        }
        "sign upload" => world.post(who, &format!("/object/upload/sign/{bucket}/new.txt"), json!({})).await,
        "move" => world.post(who, "/object/move", route).await,
        "copy" => world.post(who, "/object/copy", route).await,
        "delete" => world.ask(who, &format!("DELETE {object}"), &[], Body::empty()).await,
        "delete many" => {
            let body = json!({"prefixes": ["a.txt"]}).to_string();
            return of_list(&world.ask(who, &format!("DELETE /object/{bucket}"), &[], body).await, "");
        }
        "empty" => {
            let answer = world.post(who, &format!("/bucket/{bucket}/empty"), json!({})).await;
            let left = world.value(&format!("select count(*) from storage.objects where bucket_id = '{bucket}'")).await;
            return if answer.status.is_success() && left != "0" { 'e' } else { symbol(&answer) };
        }
        other => panic!("{other}"),
    };
    symbol(&answer)
}

async fn check(policies: &str, expected: Expect) {
    let world = World::start().await;
    world
        .sql("insert into storage.buckets (id, name, public) values ('open', 'open', true), ('private', 'private', false)")
        .await;
    world.sql(policies).await;
    let mut table = String::from("              open                               private\n              ");
    for _ in 0..2 {
        for (name, _) in CALLERS {
            write!(table, "{name:7}").unwrap();
        }
    }
    table.push('\n');
    for operation in OPERATIONS {
        write!(table, "{operation:14}").unwrap();
        for bucket in ["open", "private"] {
            for (_, who) in CALLERS {
                world.sql("set storage.allow_delete_query = 'true'; delete from storage.objects").await;
                assert_eq!(world.put(Who::Service, &format!("{bucket}/a.txt"), "a").await.outcome(), "200");
                world.sql(&format!("update storage.objects set owner_id = '{USER_A}', owner = '{USER_A}'")).await;
                write!(table, "{:7}", operate(&world, who, bucket, operation).await).unwrap();
            }
        }
        let trimmed = table.trim_end().len();
        table.truncate(trimmed);
        table.push('\n');
    }
    expected.assert_eq(&table);
}

#[tokio::test]
async fn without_policies() {
    check(
        "",
        expect![[r#"
                      open                               private
                      nobody anon   user A user B servicenobody anon   user A user B service
        upload        -      -      -      -      +      -      -      -      -      +
        overwrite     -      -      -      -      +      -      -      -      -      +
        update        -      -      -      -      +      -      -      -      -      +
        resumable     -      -      -      -      +      -      -      -      -      +
        download      +      +      +      +      +      0      0      0      0      +
        public link   +      +      +      +      +      0      0      0      0      0
        info          +      +      +      +      +      0      0      0      0      +
        list          e      e      e      e      +      e      e      e      e      +
        list v2       e      e      e      e      +      e      e      e      e      +
        sign          0      0      0      0      +      0      0      0      0      +
        sign many     e      e      e      e      +      e      e      e      e      +
        sign upload   -      -      -      -      +      -      -      -      -      +
        move          0      0      0      0      +      0      0      0      0      +
        copy          0      0      0      0      +      0      0      0      0      +
        delete        0      0      0      0      +      0      0      0      0      +
        delete many   e      e      e      e      +      e      e      e      e      +
        empty         0      0      0      0      +      0      0      0      0      +
    "#]],
    )
    .await;
}

#[tokio::test]
async fn users_have_what_is_theirs() {
    check(
        "create policy own on storage.objects for all to authenticated
             using (owner_id = auth.uid()::text) with check (owner_id = auth.uid()::text);
         create policy see on storage.buckets for select to authenticated using (true)",
        expect![[r#"
                          open                               private
                          nobody anon   user A user B servicenobody anon   user A user B service
            upload        -      -      +      +      +      -      -      +      +      +
            overwrite     -      -      +      -      +      -      -      +      -      +
            update        -      -      +      -      +      -      -      +      -      +
            resumable     -      -      +      +      +      -      -      +      +      +
            download      +      +      +      +      +      0      0      +      0      +
            public link   +      +      +      +      +      0      0      0      0      0
            info          +      +      +      +      +      0      0      +      0      +
            list          e      e      +      e      +      e      e      +      e      +
            list v2       e      e      +      e      +      e      e      +      e      +
            sign          0      0      +      0      +      0      0      +      0      +
            sign many     e      e      +      e      +      e      e      +      e      +
            sign upload   -      -      +      +      +      -      -      +      +      +
            move          0      0      +      0      +      0      0      +      0      +
            copy          0      0      +      0      +      0      0      +      0      +
            delete        0      0      +      0      +      0      0      +      0      +
            delete many   e      e      +      e      +      e      e      +      e      +
            empty         0      0      +      e      +      0      0      +      e      +
        "#]],
    )
    .await;
}

#[tokio::test]
async fn everybody_reads_and_users_add() {
    check(
        "create policy read on storage.objects for select to anon, authenticated using (true);
         create policy add on storage.objects for insert to authenticated with check (bucket_id = 'private');
         create policy see on storage.buckets for select to anon, authenticated using (true)",
        expect![[r#"
                          open                               private
                          nobody anon   user A user B servicenobody anon   user A user B service
            upload        -      -      -      -      +      -      -      +      +      +
            overwrite     -      -      -      -      +      -      -      -      -      +
            update        -      -      -      -      +      -      -      -      -      +
            resumable     -      -      -      -      +      -      -      +      +      +
            download      +      +      +      +      +      0      +      +      +      +
            public link   +      +      +      +      +      0      0      0      0      0
            info          +      +      +      +      +      0      +      +      +      +
            list          +      +      +      +      +      +      +      +      +      +
            list v2       +      +      +      +      +      +      +      +      +      +
            sign          +      +      +      +      +      +      +      +      +      +
            sign many     +      +      +      +      +      +      +      +      +      +
            sign upload   -      -      -      -      +      -      -      +      +      +
            move          -      -      -      -      +      -      -      -      -      +
            copy          -      -      -      -      +      -      -      +      +      +
            delete        -      -      -      -      +      -      -      -      -      +
            delete many   e      e      e      e      +      e      e      e      e      +
            empty         e      e      e      e      +      e      e      e      e      +
        "#]],
    )
    .await;
}
