use axum::body::Body;
use serde_json::json;

use super::{USER_A, USER_B, Who, World};

#[tokio::test]
async fn an_object_is_uploaded_read_replaced_and_deleted() {
    let world = World::with_buckets().await;
    let user = Who::User(USER_A);
    let headers = [("content-type", "text/plain;charset=UTF-8"), ("cache-control", "max-age=60")];
    let first = world.ask(user, "POST /object/private/a/b.txt", &headers, "hello").await;
    assert_eq!(first.outcome(), "200", "{}", first.text());
    assert_eq!(first.json()["Key"], "private/a/b.txt");
    let id = first.json()["Id"].as_str().unwrap().to_owned();
    assert_eq!(world.ask(user, "POST /object/private/a/b.txt", &headers, "again").await.outcome(), "400 409 Duplicate");

    let read = world.get(user, "/object/authenticated/private/a/b.txt").await;
    assert_eq!((read.status.as_u16(), &*read.text()), (200, "hello"));
    assert_eq!(read.header("content-type"), "text/plain;charset=UTF-8");
    assert_eq!(read.header("cache-control"), "max-age=60");
    assert_eq!(read.header("content-length"), "5");
    assert_eq!(read.header("accept-ranges"), "bytes");
    assert_eq!(read.header("etag"), "\"ea8f163db38682925e4491c5e58d4bb3-1\"");
    assert!(read.header("last-modified").ends_with("GMT"));
    for path in ["/object/private/a/b.txt", "/private/a/b.txt", "/object/private/a%2Fb.txt"] {
        assert_eq!(world.get(user, path).await.text(), "hello", "{path}");
    }
    let head = world.ask(user, "HEAD /object/private/a/b.txt", &[], Body::empty()).await;
    assert_eq!((head.status.as_u16(), head.body.len(), head.header("content-length")), (200, 0, "5"));
    let info = world.get(user, "/object/info/private/a/b.txt").await.json();
    assert_eq!(
        (&info["id"], &info["size"], &info["content_type"]),
        (&json!(id), &json!(5), &json!("text/plain;charset=UTF-8"))
    );
    assert_eq!((&info["bucket_id"], &info["name"]), (&json!("private"), &json!("a/b.txt")));

    let update = world.ask(user, "PUT /object/private/a/b.txt", &headers, "changed").await;
    assert_eq!(update.json()["Id"], json!(id), "{}", update.text());
    assert_eq!(world.get(user, "/object/private/a/b.txt").await.text(), "changed");
    let upsert = [("content-type", "text/plain"), ("x-upsert", "true")];
    assert_eq!(world.ask(user, "POST /object/private/a/b.txt", &upsert, "once more").await.outcome(), "200");
    world.settled().await;
    assert_eq!(world.files().len(), 1, "old versions go: {:?}", world.files());
    assert!(world.files()[0].starts_with(&format!("{}/private/a/b.txt/%", world.project.project_ref)));

    assert_eq!(world.ask(user, "DELETE /object/private/a/b.txt", &[], Body::empty()).await.outcome(), "200");
    assert_eq!(world.get(user, "/object/private/a/b.txt").await.outcome(), "400 404 not_found");
    let head = world.ask(user, "HEAD /object/private/a/b.txt", &[], Body::empty()).await;
    assert_eq!(head.status.as_u16(), 400);
    assert_eq!(
        world.ask(user, "DELETE /object/private/a/b.txt", &[], Body::empty()).await.outcome(),
        "400 404 not_found"
    );
    world.settled().await;
    assert_eq!(world.files(), [""; 0]);
}

#[tokio::test]
async fn a_name_and_what_is_below_it_are_two_objects() {
    let world = World::with_buckets().await;
    let long = "x".repeat(700);
    let names = ["a", "a/b", "a/b/c", "A", "a//b", "a/", &long, &format!("{}y", &long[..699])];
    for name in names {
        let body = Body::from(name.to_owned());
        assert_eq!(
            world.ask(Who::Service, &format!("POST /object/private/{name}"), &[], body).await.outcome(),
            "200",
            "{name}"
        );
    }
    for name in names {
        assert_eq!(world.get(Who::Service, &format!("/object/private/{name}")).await.text(), name);
    }
    for name in names {
        let deleted = world.ask(Who::Service, &format!("DELETE /object/private/{name}"), &[], Body::empty()).await;
        assert_eq!(deleted.outcome(), "200", "{name}");
        world.settled().await;
        for left in names.iter().skip_while(|left| **left != name).skip(1) {
            assert_eq!(world.get(Who::Service, &format!("/object/private/{left}")).await.text(), *left, "after {name}");
        }
    }
    assert_eq!(world.files(), [""; 0]);
}

#[tokio::test]
async fn parts_and_conditions() {
    let world = World::with_buckets().await;
    world.put(Who::Service, "open/n.txt", "0123456789").await;
    let etag = world.get(Who::Nobody, "/object/public/open/n.txt").await.header("etag").to_owned();
    let check = async |headers: &[(&str, &str)], status: u16, body: &str, range: &str| {
        let answer = world.ask(Who::Nobody, "GET /object/public/open/n.txt", headers, Body::empty()).await;
        assert_eq!((answer.status.as_u16(), &*answer.text()), (status, body), "{headers:?}");
        assert_eq!(answer.header("content-range"), range, "{headers:?}");
    };
    check(&[("range", "bytes=0-3")], 206, "0123", "bytes 0-3/10").await;
    check(&[("range", "bytes=-3")], 206, "789", "bytes 7-9/10").await;
    check(&[("range", "bytes=8-")], 206, "89", "bytes 8-9/10").await;
    check(&[("range", "bytes=0-1,3-4")], 200, "0123456789", "").await;
    check(&[("range", "lines=1-2")], 200, "0123456789", "").await;
    check(&[("range", "bytes=0-3"), ("if-range", &etag)], 206, "0123", "bytes 0-3/10").await;
    check(&[("range", "bytes=0-3"), ("if-range", "\"other\"")], 200, "0123456789", "").await;
    check(&[("if-none-match", &etag)], 304, "", "").await;
    check(&[("if-none-match", "\"other\"")], 200, "0123456789", "").await;
    check(&[("if-match", &etag)], 200, "0123456789", "").await;
    let refused =
        world.ask(Who::Nobody, "GET /object/public/open/n.txt", &[("range", "bytes=10-")], Body::empty()).await;
    assert_eq!(
        (refused.outcome(), refused.header("content-range")),
        ("416 416 invalid_range".to_owned(), "bytes */10")
    );
    let refused =
        world.ask(Who::Nobody, "GET /object/public/open/n.txt", &[("if-match", "\"x\"")], Body::empty()).await;
    assert_eq!(refused.outcome(), "412 412 PreconditionFailed");
    world.put(Who::Service, "open/empty", "").await;
    let empty = world.get(Who::Nobody, "/object/public/open/empty").await;
    assert_eq!((empty.status.as_u16(), empty.header("content-length"), empty.body.len()), (200, "0", 0));
}

#[tokio::test]
async fn names_for_downloads_and_pages_that_must_not_run() {
    let world = World::with_buckets().await;
    world.put(Who::Service, "open/n.txt", "x").await;
    let check = async |query: &str, disposition: &str| {
        let answer = world.get(Who::Nobody, &format!("/object/public/open/n.txt{query}")).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-disposition")), (200, disposition), "{query}");
    };
    check("", "").await;
    check("?download", "attachment;").await;
    check("?download=", "attachment;").await;
    check("?download=a%20b.txt", "attachment; filename=a%20b.txt; filename*=UTF-8''a%20b.txt").await;
    check("?download=%C3%A4.txt", "attachment; filename=%C3%A4.txt; filename*=UTF-8''%C3%A4.txt").await;
    check(
        "?download=x%0d%0aSet-Cookie:%20a",
        "attachment; filename=x%0D%0ASet-Cookie%3A%20a; filename*=UTF-8''x%0D%0ASet-Cookie%3A%20a",
    )
    .await;
    for (mime, sent, disposition) in [
        ("text/html", "text/plain", ""),
        ("image/svg+xml", "image/svg+xml", "attachment"),
        ("application/xhtml+xml", "application/xhtml+xml", "attachment"),
        ("image/png", "image/png", ""),
    ] {
        let headers = [("content-type", mime), ("x-upsert", "true")];
        world.ask(Who::Service, "POST /object/open/page", &headers, "<script>alert(1)</script>").await;
        let answer = world.get(Who::Nobody, "/object/public/open/page").await;
        assert_eq!(
            (answer.header("content-type"), answer.header("content-disposition")),
            (sent, disposition),
            "{mime}"
        );
    }
}

#[tokio::test]
async fn forms() {
    let world = World::with_buckets().await;
    let form = |parts: &[&str], end: &str| {
        format!("{}{end}", parts.iter().map(|part| format!("--B\r\n{part}\r\n")).collect::<String>())
    };
    let headers = [("content-type", "multipart/form-data; boundary=B"), ("x-upsert", "true")];
    let upload = async |body: String| {
        let answer = world.ask(Who::Service, "POST /object/open/f.png", &headers, body).await;
        if answer.status.is_success() { "200".to_owned() } else { answer.text() }
    };
    let file = "Content-Disposition: form-data; name=\"\"; filename=\"blob\"\r\nContent-Type: image/png\r\n\r\nPIXELS";
    let cache = "Content-Disposition: form-data; name=\"cacheControl\"\r\n\r\n77";
    let metadata = "Content-Disposition: form-data; name=\"metadata\"\r\n\r\n{\"x\":1}";
    assert_eq!(upload(form(&[cache, metadata, file], "--B--\r\n")).await, "200");
    let read = world.get(Who::Nobody, "/object/public/open/f.png").await;
    assert_eq!(
        (&*read.text(), read.header("content-type"), read.header("cache-control")),
        ("PIXELS", "image/png", "max-age=77")
    );
    assert_eq!(world.get(Who::Nobody, "/object/info/public/open/f.png").await.json()["metadata"], json!({"x": 1}));
    for (broken, what) in [
        (form(&[cache, file], ""), "no end"),
        (form(&[cache], "--B--\r\n"), "no file"),
        (form(&[], "--B--\r\n"), "nothing"),
        ("rubbish".to_owned(), "rubbish"),
        (String::new(), "empty"),
        ("--B\r\nContent-Disposition: form-data; name=\"\"; filename=\"x\"\r\n\r\nPIX".to_owned(), "cut off"),
    ] {
        let refused = upload(broken).await;
        assert!(refused.contains(r#""statusCode":"400","error":"InvalidRequest""#), "{what}: {refused}");
    }
    assert_eq!(
        world.get(Who::Nobody, "/object/public/open/f.png").await.text(),
        "PIXELS",
        "a broken form changes nothing"
    );
    let headers = [("content-type", "multipart/form-data")];
    let refused = world.ask(Who::Service, "POST /object/open/f.png", &headers, form(&[file], "--B--\r\n")).await;
    assert_eq!(refused.outcome(), "400 400 InvalidRequest", "without a boundary");
    world.settled().await;
    assert_eq!(world.files().len(), 1, "{:?}", world.files());
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_nothing() {
    let world = World::with_buckets().await;
    let broken = |bytes: usize| {
        let pieces = [Ok(vec![b'x'; bytes]), Err(std::io::Error::other("gone"))];
        Body::from_stream(futures_util::stream::iter(pieces))
    };
    for bytes in [10, 1_000_000] {
        let answer = world.ask(Who::Service, "POST /object/open/broken", &[], broken(bytes)).await;
        assert_eq!(answer.outcome(), "400 400 InvalidRequest", "{bytes}");
    }
    assert_eq!(world.get(Who::Service, "/object/open/broken").await.outcome(), "400 404 not_found");
    world.settled().await;
    test_support::eventually("no file is left", async || world.files().is_empty().then_some(())).await;
}

#[tokio::test]
async fn large_contents_are_whole() {
    let world = World::with_buckets().await;
    let content: Vec<u8> = (0..3_000_001_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let pieces: Vec<Result<Vec<u8>, std::io::Error>> = content.chunks(70_001).map(|piece| Ok(piece.to_vec())).collect();
    let body = Body::from_stream(futures_util::stream::iter(pieces));
    assert_eq!(world.ask(Who::Service, "POST /object/open/large", &[], body).await.outcome(), "200");
    let read = world.get(Who::Nobody, "/object/public/open/large").await;
    assert!(read.body == content, "{} bytes", read.body.len());
    let part = world
        .ask(Who::Nobody, "GET /object/public/open/large", &[("range", "bytes=1000000-1999999")], Body::empty())
        .await;
    assert!(part.body == content[1_000_000..2_000_000]);
}

#[tokio::test]
async fn uploads_of_one_name_at_once_leave_one_whole() {
    let world = World::with_buckets().await;
    let contents: Vec<String> = (0..24).map(|n| format!("{n}-").repeat(30_000)).collect();
    let uploads = contents.iter().map(|content| {
        let world = &world;
        async move {
            let headers = [("x-upsert", "true")];
            world.ask(Who::Service, "POST /object/open/hot", &headers, content.clone()).await.outcome()
        }
    });
    let outcomes = futures_util::future::join_all(uploads).await;
    assert!(outcomes.iter().all(|outcome| outcome == "200"), "{outcomes:?}");
    let read = world.get(Who::Nobody, "/object/public/open/hot").await.text();
    assert!(contents.contains(&read), "{} bytes", read.len());
    world.settled().await;
    assert_eq!(world.files().len(), 1);
    // Without upsert exactly one is the first.
    let uploads = (0..12).map(|n| {
        let world = &world;
        async move { world.ask(Who::Service, "POST /object/open/first", &[], format!("{n}")).await.outcome() }
    });
    let outcomes = futures_util::future::join_all(uploads).await;
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "200").count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "400 409 Duplicate").count(), 11, "{outcomes:?}");
}

#[tokio::test]
async fn who_reads_an_old_content_reads_it_to_the_end() {
    let world = World::with_buckets().await;
    let old = "old ".repeat(200_000);
    world.ask(Who::Service, "POST /object/open/c", &[], old.clone()).await;
    let mut request = http::Request::get("/object/public/open/c").body(Body::empty()).unwrap();
    request.extensions_mut().insert(world.project.clone());
    request.extensions_mut().insert(Who::Nobody.caller());
    let answer = world.storage.service().call(request).await.unwrap();
    world.ask(Who::Service, "PUT /object/open/c", &[], "new").await;
    world.settled().await;
    let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
    assert!(body == old.as_bytes());
    assert_eq!(world.get(Who::Nobody, "/object/public/open/c").await.text(), "new");
}

#[tokio::test]
async fn many_are_deleted_as_the_policies_allow() {
    let world = World::with_buckets().await;
    for name in ["one", "two"] {
        world.put(Who::User(USER_A), &format!("private/{name}"), "x").await;
    }
    world.put(Who::User(USER_B), "private/three", "x").await;
    let body = json!({"prefixes": ["one", "three", "missing", "a\u{0}b", "../x"]}).to_string();
    let deleted = world.ask(Who::User(USER_A), "DELETE /object/private", &[], body).await;
    let names: Vec<_> =
        deleted.json().as_array().unwrap().iter().map(|o| o["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, ["one"]);
    world.settled().await;
    assert_eq!(world.files().len(), 2);
    for bad in [json!({}), json!({"prefixes": []}), json!({"prefixes": vec!["x"; 1001]})] {
        let refused = world.ask(Who::Service, "DELETE /object/private", &[], bad.to_string()).await;
        assert_eq!(refused.outcome(), "400 400 InvalidRequest");
    }
}
