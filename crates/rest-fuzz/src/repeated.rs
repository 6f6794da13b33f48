//! Requests that say one thing over and over. Whoever looks at a text again for each of its parts takes a time that grows
//! with the square of its length, and these show it.

use crate::generate::{Input, encode};

const PARAMETERS: [&str; 14] = [
    "select",
    "order",
    "columns",
    "on_conflict",
    "and",
    "or",
    "not.or",
    "name",
    "tasks.id",
    "tasks.order",
    "limit",
    "numbers",
    "term",
    "zqx",
];

const STARTS: [&str; 13] = [
    "",
    "(",
    "tasks(",
    "id->",
    "id::",
    "(id.eq.\"",
    "(id.in.(",
    "eq.",
    "in.(",
    "in.(\"",
    "fts(",
    "not.",
    "clients!inner(",
];

const REPEATED: [&str; 47] = [
    "a",
    " ",
    "-",
    "a-",
    "\"",
    "\"a\"",
    "\\",
    "\\\"",
    "(",
    ")",
    ",",
    "id,",
    ".",
    "a.",
    ":",
    "a:",
    "->",
    "->a",
    "->>1",
    "->\"",
    "!",
    "a!",
    "::",
    "...",
    "tasks(",
    "tasks(id),",
    "not.",
    "and(",
    "or(id.eq.1),",
    "id.eq.\"",
    "id.eq.{",
    "id.in.(",
    "{",
    "}",
    "*",
    "*,",
    "é",
    "\t",
    "\0",
    "\u{fffd}",
    "id.desc,",
    "count()",
    "eq",
    "\",\"",
    "1,",
    "...clients(*),",
    "tasks(name.count()),",
];

const QUERIES: [&str; 9] = [
    "&",
    ";",
    "id=eq.1&",
    "zqx=1&",
    "tasks.zqx.limit=1&",
    "tasks.order=id&",
    "and=(id.eq.1)&",
    "select=id&",
    "tasks.id=is.null&",
];

const HEADERS: [&str; 10] =
    ["a", ",", ";", "a/b,", "a/b;q=0.5,", "*/*,", "a=b;", "a=\"", "application/vnd.pgrst.plan; for=\"", "0-"];

const BODIES: [&str; 10] =
    ["[", "{", "{\"a\":", "\"", "\\\"", "{\"id\":1},", "{\"id\":1,\"name\":2},", "a,b\n", "id=1&", "\"a\","];

/// A request of any length.
pub struct Repeated {
    /// What is repeated, and where.
    pub what: String,
    build: Box<dyn Fn(usize) -> Input>,
}

impl Repeated {
    fn new(what: String, build: impl Fn(usize) -> Input + 'static) -> Self {
        Self { what, build: Box::new(build) }
    }

    /// The request, nearly `length` bytes long.
    pub fn input(&self, length: usize) -> Input {
        (self.build)(length)
    }
}

/// All of them.
pub fn all() -> Vec<Repeated> {
    let mut all = Vec::new();
    for path in ["/projects", "/rpc/search_projects", "/rpc/sum_of"] {
        for name in PARAMETERS {
            for start in STARTS {
                for repeated in REPEATED {
                    all.push(Repeated::new(format!("{path}?{name}={start}{repeated:?}"), move |length| {
                        let mut target = format!("{path}?{name}=");
                        encode(start, &mut target);
                        get(filled(target, repeated, length))
                    }));
                }
            }
        }
        for repeated in REPEATED {
            all.push(Repeated::new(format!("{path}?{repeated:?}"), move |length| {
                get(filled(format!("{path}?"), repeated, length) + "=eq.1")
            }));
        }
        for repeated in QUERIES {
            all.push(Repeated::new(format!("{path}?{repeated:?}"), move |length| {
                get(format!("{path}?{}", repeated.repeat(length / repeated.len())))
            }));
        }
    }
    for repeated in REPEATED {
        all.push(Repeated::new(format!("/rpc/{repeated:?}"), move |length| {
            get(filled("/rpc/".to_owned(), repeated, length))
        }));
    }
    for repeated in HEADERS {
        for name in ["prefer", "accept", "content-type", "range", "cookie", "accept-profile"] {
            all.push(Repeated::new(format!("{name}: {repeated:?}"), move |length| {
                let value = repeated.repeat(length / repeated.len()).into_bytes();
                Input { headers: vec![(name, value)], ..get("/projects".to_owned()) }
            }));
        }
    }
    for repeated in BODIES {
        for (content_type, start) in [
            ("application/json", ""),
            ("application/json", "["),
            ("text/csv", "id,name\n"),
            ("text/csv", ""),
            ("application/x-www-form-urlencoded", ""),
        ] {
            for target in ["/projects", "/projects?columns=id", "/rpc/search_projects", "/rpc/import"] {
                all.push(Repeated::new(format!("{target} {content_type} {start}{repeated:?}"), move |length| Input {
                    method: "POST",
                    target: target.to_owned(),
                    headers: vec![("content-type", content_type.as_bytes().to_vec())],
                    body: format!("{start}{}", repeated.repeat(4 * length / repeated.len())).into_bytes(),
                    values: Vec::new(),
                }));
            }
        }
    }
    all
}

fn get(target: String) -> Input {
    Input { method: "GET", target, ..Input::default() }
}

/// With as much behind it as fits.
fn filled(mut target: String, text: &str, length: usize) -> String {
    let mut once = String::new();
    encode(text, &mut once);
    let room = length.saturating_sub(target.len() + 16);
    target.push_str(&once.repeat(room / once.len()));
    target
}
