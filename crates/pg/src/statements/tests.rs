use super::*;

/// Cuts `sql` whole and byte by byte, which has to come to the same.
fn pieces(sql: &str) -> Vec<String> {
    let run = |chunk: usize| {
        let (mut out, mut data) = (Vec::new(), (Vec::new(), 0));
        let mut sink = |piece: Piece<'_>| -> Result<(), ()> {
            match piece {
                Piece::Statement { text, line, copies } => {
                    out.push(format!("{line}{} {text}", if copies { " copy" } else { "" }));
                }
                Piece::CopyData { bytes, rows } => {
                    data.0.extend_from_slice(bytes);
                    data.1 += rows;
                }
                Piece::CopyEnd => {
                    out.push(format!("{} rows {:?}", data.1, String::from_utf8_lossy(&data.0)));
                    data = (Vec::new(), 0);
                }
                Piece::Note(text) => out.push(format!("note {text}")),
                Piece::Meta { text, line } => out.push(format!("{line} meta {text}")),
            }
            Ok(())
        };
        let mut scanner = StatementScanner::default();
        for part in sql.as_bytes().chunks(chunk) {
            scanner.feed(part, &mut sink).unwrap();
        }
        scanner.finish(&mut sink).unwrap();
        out
    };
    let whole = run(sql.len().max(1));
    for chunk in [1, 2, 3, 7] {
        assert_eq!(run(chunk), whole, "in chunks of {chunk}: {sql}");
    }
    whole
}

#[test]
fn statements_end_where_psql_says_they_do() {
    let check = |sql: &str, expected: &[&str]| assert_eq!(pieces(sql), expected, "{sql}");
    check("", &[]);
    check(" ;; ", &[]);
    check("select 1", &["1 select 1"]);
    check("select 1;\nselect 2 ;", &["1 select 1", "2 select 2"]);
    check("select ';' , 'it''s;' ; x", &["1 select ';' , 'it''s;'", "1 x"]);
    check(r"select E'a\';b''\'' ; x", &[r"1 select E'a\';b''\''", "1 x"]);
    check(r"select 'a\'; x", &[r"1 select 'a\'", "1 x"]);
    check("select \"a;\"\"b\"; x", &["1 select \"a;\"\"b\"", "1 x"]);
    check("do $$ begin; end $$; x", &["1 do $$ begin; end $$", "1 x"]);
    check("do $a$ $b$ ; $$ ; $a $a$; x", &["1 do $a$ $b$ ; $$ ; $a $a$", "1 x"]);
    check("select $1, a$b$c; x", &["1 select $1, a$b$c", "1 x"]);
    check("\n-- one;\n/* two; /* three */ ; */ select 1 -- x;\n, 2;", &["note one;", "3 select 1 -- x;\n, 2"]);
    check("select 1 - 2 / 3 -1; x", &["1 select 1 - 2 / 3 -1", "1 x"]);
    check(
        "create rule r as on insert to t do (select 1; select 2); x",
        &["1 create rule r as on insert to t do (select 1; select 2)", "1 x"],
    );
    let atomic = "create or replace function f() returns int begin atomic select case when true then 1 end; \
                  select 2; end";
    check(&format!("{atomic}; x"), &[&format!("1 {atomic}"), "1 x"]);
    check("begin; select 1; end; x", &["1 begin", "1 select 1", "1 end", "1 x"]);
    check("create table \"begin\" (a int); x", &["1 create table \"begin\" (a int)", "1 x"]);
}

#[test]
fn copy_data_is_no_sql() {
    let sql = "COPY public.t (a, \"from\") FROM stdin;\n1\tit's;\n\\N\t\\.\n\\.x\n\\.\n\nselect 1;\n";
    assert_eq!(
        pieces(sql),
        [
            "1 copy COPY public.t (a, \"from\") FROM stdin",
            "3 rows \"1\\tit's;\\n\\\\N\\t\\\\.\\n\\\\.x\\n\"",
            "7 select 1",
        ]
    );
    assert_eq!(pieces("COPY t FROM stdin;\n\\.\nx;"), ["1 copy COPY t FROM stdin", "0 rows \"\"", "3 x"]);
    assert_eq!(pieces("copy t from 'stdin'; x"), ["1 copy t from 'stdin'", "1 x"]);
}

#[test]
fn commands_of_psql_and_notes_are_told() {
    assert_eq!(
        pieces("\\restrict abc\n--\n-- Name: x\n--\nselect 1;\n\\unrestrict abc\n"),
        ["1 meta \\restrict abc", "note Name: x", "5 select 1", "6 meta \\unrestrict abc",]
    );
    assert!(matches!(split("\\! true\n"), Err(ScanError::Sink(_))));
}

#[test]
fn what_has_no_end_is_refused() {
    for sql in ["select 'a", "select $$ a", "select \"a", "/* a", "x;\ncopy t from stdin;\n1\n"] {
        assert!(matches!(split(sql), Err(ScanError::Unterminated { .. })), "{sql}");
    }
    assert_eq!(split("a;\nb").unwrap()[1], Statement { text: "b".to_owned(), line: 2, copies: false });
}
