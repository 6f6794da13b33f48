//! Templates as Supabase's users paste them.

use serde_json::{Value, json};

use super::{Kind, TemplateError, render};

fn variables() -> Value {
    json!({
        "SiteURL": "https://app.example",
        "ConfirmationURL": "https://api.example/auth/v1/verify?token=abc&type=signup&redirect_to=https://app.example/",
        "Token": "123456",
        "TokenHash": "pkce_abc",
        "RedirectTo": "https://app.example/next?a=b&c=d",
        "Email": "a+b@example.org",
        "Data": {"name": "<b>Bob</b> & \"co\"", "lang": "de", "age": 7, "items": ["x", "y"], "none": null, "js": "JaVa\tScript:alert(1)"},
    })
}

fn check(kind: Kind, source: &str, expected: &str) {
    assert_eq!(render(kind, source, &variables()).as_deref(), Ok(expected), "{source}");
}

#[test]
fn values_are_escaped_for_the_place_they_stand_in() {
    let html = |source, expected| check(Kind::Html, source, expected);
    html("<p>{{ .Data.name }}</p>", "<p>&lt;b&gt;Bob&lt;/b&gt; &amp; &#34;co&#34;</p>");
    html(
        r#"<a href="{{ .ConfirmationURL }}">x</a>"#,
        r#"<a href="https://api.example/auth/v1/verify?token=abc&amp;type=signup&amp;redirect_to=https://app.example/">x</a>"#,
    );
    // As Supabase's documentation recommends for server-side rendering.
    html(
        r#"<a href="{{ .SiteURL }}/confirm?token_hash={{ .TokenHash }}&type=email&next={{ .RedirectTo }}">"#,
        r#"<a href="https://app.example/confirm?token_hash=pkce_abc&type=email&next=https%3A%2F%2Fapp.example%2Fnext%3Fa%3Db%26c%3Dd">"#,
    );
    html("<a href={{ .Data.name }}>", "<a href=&lt;b&gt;Bob&lt;/b&gt;&#32;&amp;&#32;&#34;co&#34;>");
    html("<a href='{{ .Data.js }}'>", "<a href='#'>");
    html("<a title='{{ .Data.js }}'>", "<a title='JaVa\tScript:alert(1)'>");
    html("<i {{ .Data.name }}>", "<i &lt;b&gt;Bob&lt;/b&gt;&#32;&amp;&#32;&#34;co&#34;>");
    html(
        "<!--[if mso]><a href=\"{{ .SiteURL }}\"><![endif]-->",
        "<!--[if mso]><a href=\"https://app.example\"><![endif]-->",
    );
    check(Kind::Text, "{{ .Data.name }}", "<b>Bob</b> & \"co\"");
}

#[test]
fn what_is_not_gos_has_no_meaning() {
    for source in ["{% set x = 1 %}{# no #}${x}", "a { b } c", "<style>a{{/* x */}b{}</style>"] {
        let expected = source.replace("{{/* x */}", "");
        if source == expected {
            check(Kind::Html, source, source);
        }
    }
    check(Kind::Text, "{% raw %}{{ .Token }}{# x #}", "{% raw %}123456{# x #}");
    check(Kind::Text, "}} {{ .Token }}", "}} 123456");
}

#[test]
fn blocks_functions_and_trim_markers_work() {
    let text = |source, expected| check(Kind::Text, source, expected);
    text("{{.Token}}|{{ .Nothing }}|{{ .Data.nothing.more }}|{{ .Data.none }}", "123456|||");
    text(
        "{{ if eq .Data.lang \"fr\" }}Bonjour{{ else if eq .Data.lang `de` \"at\" }}Hallo{{ else }}Hi{{ end }}",
        "Hallo",
    );
    text("{{ if .NewEmail }}a{{ else }}b{{ end }}", "b");
    text("{{ if and .Token (not .NewEmail) }}a{{ end }}{{ if or .NewEmail .Nothing }}b{{end}}", "a");
    text("{{ range .Data.items }}[{{ . }}{{ $.Token }}]{{ end }}", "[x123456][y123456]");
    text("{{ range .Nothing }}x{{ else }}none {{ .Token }}{{ end }}", "none 123456");
    text("{{ with .Data }}{{ .lang }}{{ with .items }}{{ index . 1 }}{{ end }}{{ end }}", "dey");
    text("{{ index .Data \"lang\" }} {{ len .Data.items }} {{ .Data.age }} {{ gt .Data.age 3 }}", "de 2 7 true");
    text(
        "{{ .Email | urlquery }} {{ print \"a\" .Token }} {{ printf \"%s-%d%%\" .Token .Data.age }}",
        "a%2Bb%40example.org a123456 123456-7%",
    );
    text("a  {{- .Token -}}  b {{- /* note }} */ -}} c", "a123456bc");
    text("{{ \"}}\" }}{{ `a\\b` }}", "}}a\\b");
}

#[test]
fn what_is_not_supported_is_said() {
    let check = |source: &str, line: usize, what: &str| {
        let expected = Err(TemplateError::Syntax { line, what: what.to_owned() });
        assert_eq!(render(Kind::Html, source, &variables()), expected, "{source}");
    };
    check("a\n{{ .Token", 2, "an action is not closed with }}");
    check("{{ $x := .Token }}", 1, "variables such as $x are not supported");
    check("{{ template \"x\" }}", 1, "template is not supported");
    check("a\nb\n{{ if .X }}", 3, "this has no {{ end }}");
    check("{{ end }}", 1, "there is nothing to end");
    check("{{ else }}", 1, "there is no if that this belongs to");
    check("{{ }}", 1, "a value is missing");
    check("{{ upper .X }}", 1, "the function upper is not supported");
    check("{{ .X .Y }}", 1, "only a function takes arguments");
    check("{{ (.X }}", 1, "a parenthesis is not closed");
    check("{{ .X) }}", 1, "a parenthesis is not opened");
    check("{{ .X..Y }}", 1, ".X..Y is no path");
    check("{{ if .A }}{{ else }}{{ else }}{{ end }}", 1, "there has been an else already");
}

#[test]
fn a_template_is_bounded_in_what_it_does_and_prints() {
    let many: Vec<u32> = (0..2000).collect();
    let variables = json!({ "Data": { "many": many, "long": "x".repeat(10_000) } });
    let all = |source: &str| render(Kind::Html, source, &variables);
    let nested = "{{ range $.Data.many }}{{ range $.Data.many }}{{ range $.Data.many }}{{ end }}{{ end }}{{ end }}";
    assert_eq!(all(nested), Err(TemplateError::Render("it does too much".into())));
    assert_eq!(
        all("{{ range .Data.many }}{{ $.Data.long }}{{ end }}"),
        Err(TemplateError::Render("its output is too long".into()))
    );
    let deep = format!("{}{}", "{{ if .A }}".repeat(40), "{{ end }}".repeat(40));
    assert!(matches!(all(&deep), Err(TemplateError::Syntax { .. })));
    let deep = format!("{{{{ {}.A{} }}}}", "(".repeat(200), ")".repeat(200));
    assert!(matches!(all(&deep), Err(TemplateError::Syntax { .. })));
}

#[test]
fn templates_that_would_nest_without_end_are_refused() {
    let refused = |source: String, what: &str| match render(Kind::Text, &source, &variables()) {
        Err(TemplateError::Syntax { what: told, .. }) => assert!(told.contains(what), "{told}"),
        other => panic!("{what}: {other:?}"),
    };
    refused(format!("{{{{ .{} }}}}", "a.".repeat(1_000) + "a"), "a path has more than");
    refused(format!("{{{{ .{} }}}}", "a.".repeat(100_000) + "a"), "an action is longer than");
    refused(format!("{{{{ and {} }}}}", ". ".repeat(100)), "a call has more than");
    refused(format!("{{{{ .{} }}}}", "|len".repeat(100)), "too many pipes");
    refused(format!("{{{{ {} }}}}", "(".repeat(100)), "too deep");
    refused(format!("{{{{ if . }}}}{}{{{{ end }}}}", "{{ else if . }}".repeat(10_000)), "branches");
    refused("x".repeat(300_000), "longer than");
    let chains = format!("{{{{ {} }}}}", "(index . ".repeat(15) + "\"a\"" + &")".repeat(15));
    check(Kind::Text, &format!("{chains}{{{{ index . {} }}}}", "\"a\" ".repeat(15)), "");
}

#[test]
fn what_functions_join_is_no_longer_than_a_mail() {
    let variables = json!({"x": "y".repeat(500_000)});
    for call in ["print", "println", "printf \"%s%s%s\""] {
        let source = format!("{{{{ if {call} .x .x .x }}}}{{{{ end }}}}");
        assert_eq!(
            render(Kind::Text, &source, &variables),
            Err(TemplateError::Render("its output is too long".to_owned())),
            "{call}"
        );
    }
}
