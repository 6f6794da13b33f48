use serde_json::{Value, json};

use super::{USER_A, USER_B, Who, World};

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect()
}

async fn filled() -> World {
    let world = World::with_buckets().await;
    for name in ["b.txt", "a.txt", "dir/c.txt", "dir/d.txt", "dir/sub/e.txt", "Dir2/f.txt"] {
        world.put(Who::User(USER_A), &format!("private/{name}"), "x").await;
    }
    world
}

#[tokio::test]
async fn one_level_with_folders() {
    let world = filled().await;
    let list = async |who: Who, body: Value| world.post(who, "/object/list/private", body).await.json();
    let a = Who::User(USER_A);
    let all = list(a, json!({"prefix": ""})).await;
    assert_eq!(names(&all), ["a.txt", "b.txt", "dir", "Dir2"]);
    assert_eq!((&all[2]["id"], &all[2]["metadata"]), (&json!(null), &json!(null)));
    assert_eq!((&all[0]["metadata"]["size"], &all[0]["metadata"]["mimetype"]), (&json!(1), &json!("text/plain")));
    assert_eq!(names(&list(a, json!({"prefix": "dir"})).await), ["c.txt", "d.txt", "sub"]);
    assert_eq!(names(&list(a, json!({"prefix": "dir/", "search": "d"})).await), ["d.txt"]);
    assert_eq!(names(&list(a, json!({"prefix": "", "limit": 2, "offset": 1})).await), ["b.txt", "dir"]);
    let by = json!({"prefix": "", "sortBy": {"column": "name", "order": "desc"}});
    assert_eq!(names(&list(a, by).await), ["Dir2", "dir", "b.txt", "a.txt"]);
    assert_eq!(names(&list(a, json!({"prefix": "nothing"})).await), [""; 0]);
    for who in [Who::User(USER_B), Who::Anon] {
        assert_eq!(names(&list(who, json!({"prefix": ""})).await), [""; 0], "{who:?}");
    }
    for bad in [
        json!({"prefix": "", "sortBy": {"column": "secret"}}),
        json!({"prefix": "", "sortBy": {"column": "name", "order": "x"}}),
        json!({"prefix": "", "limit": 0}),
        json!({"prefix": "", "limit": -1}),
        json!({"prefix": "a\u{0}"}),
        json!({"prefix": 5}),
    ] {
        assert_eq!(
            world.post(a, "/object/list/private", bad.clone()).await.outcome(),
            "400 400 InvalidRequest",
            "{bad}"
        );
    }
}

#[tokio::test]
async fn pages_behind_a_cursor() {
    let world = filled().await;
    let a = Who::User(USER_A);
    for (column, order, delimited, expected) in [
        ("name", "asc", false, vec!["Dir2/f.txt", "a.txt", "b.txt", "dir/c.txt", "dir/d.txt", "dir/sub/e.txt"]),
        ("name", "desc", false, vec!["dir/sub/e.txt", "dir/d.txt", "dir/c.txt", "b.txt", "a.txt", "Dir2/f.txt"]),
        ("created_at", "asc", false, vec!["b.txt", "a.txt", "dir/c.txt", "dir/d.txt", "dir/sub/e.txt", "Dir2/f.txt"]),
        ("name", "asc", true, vec!["Dir2/", "a.txt", "b.txt", "dir/"]),
    ] {
        for limit in [1, 2, 100] {
            let (mut cursor, mut seen) = (String::new(), Vec::new());
            for _ in 0..20 {
                let body = json!({"limit": limit, "cursor": cursor, "with_delimiter": delimited,
                                  "sortBy": {"column": column, "order": order}});
                let page = world.post(a, "/object/list-v2/private", body).await.json();
                // Within a page folders and objects come apart; of one entry there is only one order.
                let mut names: Vec<String> = ["folders", "objects"]
                    .iter()
                    .flat_map(|kind| {
                        page[kind].as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap().to_owned())
                    })
                    .collect();
                seen.append(&mut names);
                if page["hasNext"] == json!(false) {
                    assert_eq!(page["nextCursor"], json!(null));
                    break;
                }
                cursor = page["nextCursor"].as_str().unwrap().to_owned();
            }
            let mut expected: Vec<String> = expected.iter().map(|name| (*name).to_owned()).collect();
            if delimited {
                expected.sort();
                seen.sort();
            }
            assert_eq!(seen, expected, "{column} {order} by {limit}");
        }
    }
    let page = world.post(a, "/object/list-v2/private", json!({"prefix": "dir/", "with_delimiter": true})).await.json();
    assert_eq!((names(&page["folders"]), names(&page["objects"])), (vec!["dir/sub/"], vec!["dir/c.txt", "dir/d.txt"]));
    assert_eq!(
        world.post(a, "/object/list-v2/private", json!({"cursor": "xx"})).await.outcome(),
        "400 400 InvalidParameter"
    );
    assert_eq!(names(&world.post(Who::Anon, "/object/list-v2/private", json!({})).await.json()["objects"]), [""; 0]);
}
